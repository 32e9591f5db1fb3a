package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/metalcast/metalcast/internal/temptest"
)

type event struct {
	Event, Phase, Text string
	Bytes, Total       int64
	Seconds            float64
}

// readEvents reads lines of which every one must be an event.
func readEvents(t *testing.T, text *bytes.Buffer) (progress, messages []event) {
	t.Helper()
	for s := bufio.NewScanner(text); s.Scan(); {
		d := json.NewDecoder(bytes.NewReader(s.Bytes()))
		d.DisallowUnknownFields()
		var e event
		require.NoError(t, d.Decode(&e), "%s", s.Text())
		switch e.Event {
		case "progress":
			progress = append(progress, e)
		case "message":
			messages = append(messages, e)
		default:
			t.Fatalf("another event: %s", s.Text())
		}
	}
	return progress, messages
}

// Whatever else is asked for, progress comes as JSON when JSON is asked for: from each phase the
// first and the last, and never backwards.
func TestProgressAsJSON(t *testing.T) {
	src := synthetic(t, "--layers", "2", "--experts", "4")
	dst := filepath.Join(temptest.Dir(t), "dst")
	dst4 := filepath.Join(temptest.Dir(t), "dst4")
	for _, test := range []struct {
		args     []string
		phases   []string
		messages bool
	}{
		{[]string{"convert", src, dst, "--verify"}, []string{"converting", "verifying"}, true},
		{[]string{"convert", src, dst4, "-q", "--json"}, []string{"converting"}, false},
		{[]string{"verify", src, dst, "--json"}, []string{"verifying"}, false},
		{[]string{"verify", src, dst, "--quiet"}, []string{"verifying"}, false},
		{[]string{"verify", src, dst4, "--error", "--json"}, []string{"measuring"}, false},
		{[]string{"inspect", src, "--scan"}, []string{"scanning"}, false},
	} {
		var out, errs bytes.Buffer
		require.Zero(t, run(append(test.args, "--progress", "json"), &out, &errs), "%v: %s", test.args, &errs)
		progress, messages := readEvents(t, &errs)
		assert.Equal(t, test.messages, len(messages) > 0, "%v: %v", test.args, messages)
		var phases []string
		before := map[string]event{}
		for i, e := range progress {
			if i == 0 || progress[i-1].Phase != e.Phase {
				phases = append(phases, e.Phase)
				assert.Zero(t, e.Bytes, "%v", test.args)
			}
			was := before[e.Phase]
			assert.True(t, e.Bytes >= was.Bytes && e.Seconds >= was.Seconds && e.Bytes <= e.Total, "%v after %v", e, was)
			before[e.Phase] = e
		}
		assert.Equal(t, test.phases, phases, "%v", test.args)
		for phase, e := range before {
			assert.Positive(t, e.Total)
			assert.Equal(t, e.Total, e.Bytes, "the last of %s, %v", phase, test.args)
		}
	}
}

func TestProgressForPeople(t *testing.T) {
	src := synthetic(t, "--layers", "1", "--experts", "2")
	var out, errs bytes.Buffer
	require.Zero(t, run([]string{"convert", src, filepath.Join(temptest.Dir(t), "dst"), "--json", "--progress", "auto"}, &out, &errs))
	assert.Empty(t, errs.String())
	require.Equal(t, exitUsage, run([]string{"convert", src, "dst", "--progress", "xml"}, io.Discard, &errs))
	assert.Contains(t, errs.String(), `"xml" is neither auto nor json`)
}

// An error is an event too, where no JSON document has it, and its text is escaped as on a
// terminal.
func TestErrorsAmongEvents(t *testing.T) {
	var errs bytes.Buffer
	require.Equal(t, exitInput, run([]string{"convert", "--progress", "json", filepath.Join(temptest.Dir(t), "no\nsuch"), "dst"}, io.Discard, &errs))
	progress, messages := readEvents(t, &errs)
	assert.Empty(t, progress)
	require.NotEmpty(t, messages)
	assert.Contains(t, messages[0].Text, "error: ")
	assert.Contains(t, messages[0].Text, `no\nsuch`)
}

// In between lines come now and then; the first and the last of a phase always.
func TestEventsAreFew(t *testing.T) {
	for every, want := range map[time.Duration][]int64{time.Hour: {0, 5, 5, 9}, 0: {0, 1, 2, 5, 5, 7, 9}} {
		var text bytes.Buffer
		e := newEvents(&text)
		e.every = every
		for _, n := range []int64{0, 1, 2, 5} {
			e.progress("converting", n, 5)
		}
		for _, n := range []int64{5, 7, 9} { // an earlier run had done 5
			e.progress("verifying", n, 9)
		}
		progress, _ := readEvents(t, &text)
		var got []int64
		for _, p := range progress {
			got = append(got, p.Bytes)
		}
		assert.Equal(t, want, got)
	}
}
