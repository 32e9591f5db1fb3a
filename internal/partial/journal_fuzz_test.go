package partial_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/metalcast/metalcast/internal/engine"
	"github.com/metalcast/metalcast/internal/fault"
	"github.com/metalcast/metalcast/internal/partial"
	"github.com/metalcast/metalcast/internal/plan"
)

// FuzzJournal resumes a DST.partial whose journal is any text. It is refused, started over, or
// resumed at pieces of the plan alone; no shard looks complete; and what is done from there on is
// recorded in addition to what was done before.
func FuzzJournal(f *testing.F) {
	const state = `{"a":1}`
	for _, text := range []string{
		"", "{", state, state + "\n", state + "\n{\"done\":[[0,3],[5,7]]}\n", state + "\n{\"done\":[[0,3]]}\n{\"done\":[[0,4]]}\n", state + "\n{\"done\":[[0,3]]}\n{\"done\":[[0,",
		state + "\n{\"done\":[[0,70]]}\n", state + "\n{\"done\":[[0,71]]}\n", state + "\n{\"done\":[[3,1]]}\n", state + "\n{\"done\":[[0,9],[0,9]]}\n", state + "\n{\"done\":[[-1,1]]}\n",
		state + "\n{\"done\":[[0,2147483648]]}\n", state + "\n{\"done\":null}\n", state + "\nnull\n", state + "\n{\"done\":[[0,3]]}\n{\"done\":[[0,5]],\"done\":[[0,9]]}\n", "{}\n{\"done\":[[0,1]]}\n", state + "\n{\"done\":[[1]],\"findings\":[{\"tensor\":\"x\"}],\"nvfp4\":{\"All\":-1}}\n",
	} {
		f.Add([]byte(text))
	}
	const pieces = 70
	p := &plan.Plan{Pieces: make([]plan.Piece, pieces), Shards: []plan.Shard{{Name: "model.safetensors", Header: bytes.Repeat([]byte{'h'}, 16), Size: 20}}}
	f.Fuzz(func(t *testing.T, journal []byte) {
		m := newMemFS()
		put := func(name string, data []byte) {
			m.names["/out/dst.partial/"+name] = &node{data: data, synced: data}
		}
		m.names["/out/dst.partial"] = &node{dir: true}
		put("metalcast.lock", []byte("a conversion by metalcast is in progress here, or was interrupted\n"))
		put("metalcast.journal", journal)
		put("model.safetensors", []byte("hhhhhhhhhhhhhhhhdata"))
		o := partial.DirOptions{FS: m, State: []byte(state)}
		d, err := partial.CreateDir("/out/dst", p, o)
		if err != nil {
			var differs *partial.Differs
			var e *fault.Error
			require.True(t, errors.As(err, &differs) || errors.As(err, &e), "%v", err)
			return
		}
		require.Equal(t, make([]byte, 8), m.names["/out/dst.partial/model.safetensors"].data[:8])
		had := members(t, d, pieces)
		const more = pieces - 1
		require.NoError(t, d.Done([]int32{more}, &engine.Counts{}))
		kept, err := d.Keep()
		require.NoError(t, err)
		require.True(t, kept)
		if tail := journal[min(len(journal), whole(journal)):]; bytes.ContainsRune(tail, '\n') {
			return // no run leaves lines behind one that is torn
		}
		d, err = partial.CreateDir("/out/dst", p, o)
		require.NoError(t, err)
		had[more] = true
		require.Equal(t, had, members(t, d, pieces))
	})
}

// A line with a key twice, which two readers would take for different ones, is ignored with
// everything after it.
func TestJournalIsReadStrictly(t *testing.T) {
	p := &plan.Plan{Pieces: make([]plan.Piece, 70), Shards: []plan.Shard{{Name: "model.safetensors", Header: bytes.Repeat([]byte{'h'}, 16), Size: 20}}}
	for _, line := range []string{`{"done":[[0,5]],"done":[[0,9]]}`, `{"done":[[0,9]],"x":NaN}`, "{\"done\":[[0,9]],\"x\":\"\xFF\"}"} {
		m := newMemFS()
		m.names["/out/dst.partial"] = &node{dir: true}
		for name, text := range map[string]string{
			"metalcast.lock": "a conversion by metalcast is in progress here, or was interrupted\n", "model.safetensors": "hhhhhhhhhhhhhhhhdata",
			"metalcast.journal": "{\"a\":1}\n{\"done\":[[0,3]]}\n" + line + "\n{\"done\":[[0,20]]}\n",
		} {
			m.names["/out/dst.partial/"+name] = &node{data: []byte(text), synced: []byte(text)}
		}
		d, err := partial.CreateDir("/out/dst", p, partial.DirOptions{FS: m, State: []byte(`{"a":1}`)})
		require.NoError(t, err)
		require.Equal(t, map[int32]bool{0: true, 1: true, 2: true}, members(t, d, 70), line)
	}
}

// members are the pieces that a run need not do again.
func members(t *testing.T, d *partial.Dir, pieces int32) map[int32]bool {
	t.Helper()
	set := map[int32]bool{}
	for _, r := range d.Resumed().Done {
		require.True(t, 0 <= r[0] && r[0] <= r[1] && r[1] <= pieces, "%v", r)
		for i := r[0]; i < r[1]; i++ {
			set[i] = true
		}
	}
	return set
}

// whole is the length of a journal's lines but for a last one that is cut short.
func whole(journal []byte) int { return strings.LastIndexByte(string(journal), '\n') + 1 }
