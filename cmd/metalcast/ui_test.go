package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/spf13/cobra"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/metalcast/metalcast"
	"github.com/metalcast/metalcast/internal/dtype"
	"github.com/metalcast/metalcast/internal/kernel"
	"github.com/metalcast/metalcast/internal/needtest"
)

func TestPlain(t *testing.T) {
	for in, want := range map[string]string{
		"model-00001.safetensors": "model-00001.safetensors",
		`C:\models\Größe 模型`:      `C:\models\Größe 模型`,
		"red\x1b[31m":             `red\x1b[31m`,
		"a\nb\tc\rd\x00e\x7f":     `a\nb\tc\rd\x00e\x7f`,
		"c1\u009b31m":             `c1\u009b31m`,
		"rtl\u202egnp.exe":        `rtl\u202egnp.exe`,
		"bad\xffutf8":             `bad\xffutf8`,
		"replacement \ufffd":      "replacement \ufffd",
	} {
		assert.Equal(t, want, plain(in))
	}
}

// Nothing that a checkpoint's names hold may reach the terminal as a control character.
func TestNoEscapesOnTheTerminal(t *testing.T) {
	const evil = "x\x1b]0;owned\x07\u009b2J\u202e\r\n\ty"
	var out, errs bytes.Buffer
	u := newUI(&out, &errs)
	w := u.table()
	w.row(evil, evil)
	w.fact(evil, "%s", evil)
	w.flush()
	u.linef("%s", evil)
	u.messagef("%s", evil)
	u.warningf("%s", evil)
	u.report(errors.New(evil), exitFailed)
	for _, s := range []string{out.String(), errs.String()} {
		assert.Equal(t, strings.ReplaceAll(s, "\n", `\n`), plain(s))
	}
	assert.Equal(t, 3, strings.Count(out.String(), "\n"))
	assert.Equal(t, 3, strings.Count(errs.String(), "\n"))
}

// A shell makes of a printed command the words that it is made of.
func TestCommandInAShell(t *testing.T) {
	bash, err := exec.LookPath("bash")
	if err != nil {
		needtest.Skip(t, "system", "no bash")
	}
	words := []string{
		"plain", "", "two words", "it's", `"double"`, `back\slash`, "new\nline", "tab\there", "[a]", "{a,b}", "*?", "$HOME `id` $(id)", "~", "~root", "#x", "a;b&c|d<e>f",
		"!!", "Größe", "\x1b[31m", "esc\x1b'1", "nul-like\x01", "bad\xff1", "rtl\u202e8", "%s", "=ls", "a=b", "^x",
	}
	line := command(words...)
	assert.Equal(t, line, plain(line), "as it is shown")
	out, err := exec.Command(bash, "-c", `printf '%s\0' `+line).Output()
	require.NoError(t, err, "%s", line)
	assert.Equal(t, words, strings.Split(strings.TrimSuffix(string(out), "\x00"), "\x00"))
}

func TestPathIsNoFlag(t *testing.T) {
	assert.Equal(t, "./-q", path("-q"))
	assert.Equal(t, "./=ls", path("=ls"))
	assert.Equal(t, "/a/-b", path("/a/-b"))
	assert.Equal(t, "out-bf16", beside("out/", "-bf16"))
	assert.NotEqual(t, ".-bf16", beside(".", "-bf16"))
}

// A result that is not written is a failure.
func TestFullDisk(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		needtest.Skip(t, "system", "no /dev/full")
	}
	defer full.Close()
	src := synthetic(t, "--layers", "1", "--experts", "2")
	usable := synthetic(t, "--layers", "1", "--experts", "2", "--stacked")
	for _, args := range [][]string{
		{"inspect", src}, {"inspect", src, "--json"}, {"plan", src}, {"plan", src, "--json"}, {"version"}, {"--version"}, {"--help"}, {"completion", "bash"}, {"doctor"},
	} {
		var errs bytes.Buffer
		assert.Equal(t, exitFailed, run(args, full, &errs), "%v", args)
		lines := strings.Split(strings.TrimSpace(errs.String()), "\n")
		assert.Equal(t, "metalcast: error: standard output: no space left on device", lines[len(lines)-1], "%v", args)
		assert.Equal(t, 1, strings.Count(errs.String(), "error"), "%v: %s", args, &errs)
	}
	var errs bytes.Buffer
	assert.Equal(t, exitFailed, run([]string{"plan", usable}, full, &errs))
	errs.Reset()
	assert.Equal(t, exitInput, run([]string{"plan", src + "/nothing", "--json"}, full, &errs))
	assert.Contains(t, errs.String(), "nothing: no such directory")
}

type brokenPipe struct{}

func (brokenPipe) Write([]byte) (int, error) { return 0, syscall.EPIPE }

func TestBrokenPipeIsQuiet(t *testing.T) {
	var errs bytes.Buffer
	assert.Equal(t, exitFailed, run([]string{"version"}, brokenPipe{}, &errs))
	assert.Empty(t, errs.String())
}

func TestPanicIsNoUsageError(t *testing.T) {
	for _, asJSON := range []bool{false, true} {
		var out, errs bytes.Buffer
		u := newUI(&out, &errs)
		root := newRoot(u)
		root.AddCommand(&cobra.Command{Use: "boom", RunE: func(*cobra.Command, []string) error { u.json = asJSON; panic("a piece overlaps") }})
		assert.Equal(t, exitFailed, execute(context.Background(), u, root, []string{"boom"}))
		text := "internal error: a piece overlaps; please report this"
		if asJSON {
			assert.JSONEq(t, `{"error": "`+text+`", "exit_code": 1}`, out.String())
		} else {
			assert.True(t, strings.HasPrefix(errs.String(), "metalcast: error: "+text+"\n"), "%s", &errs)
		}
		assert.Contains(t, errs.String(), "TestPanicIsNoUsageError", "the stack")
	}
}

// Columns line up whatever is in the table.
func TestParityColumns(t *testing.T) {
	const mark = "here"
	widest := kernel.Params{Op: kernel.Dequant, From: dtype.F8E4M3, To: dtype.BF16, ScaleType: dtype.BF16, BlockRows: 128, BlockCols: 128, Transposed: true}
	column := strings.Index(parityLine("kernel", "input", "elements", "differences", mark), mark)
	line := parityLine(widest.String(), "ragged shapes, strides, odd offsets", "99,999,999,999", "99,999,999,999", mark)
	assert.Equal(t, column, strings.Index(line, mark), line)
	assert.Equal(t, "kernel", parityLine("kernel", "", "", "", ""), "no blanks at the end")
}

func TestOutputKeepsItsFirstError(t *testing.T) {
	o := &output{w: io.Discard}
	_, err := o.Write([]byte("x"))
	require.NoError(t, err)
	o.w = brokenPipe{}
	_, err = o.Write([]byte("x"))
	require.ErrorIs(t, err, syscall.EPIPE)
	o.w = io.Discard
	_, err = o.Write([]byte("x"))
	require.ErrorIs(t, err, syscall.EPIPE)
}

// The summary of a resumed run has its own rate, and none where an earlier run had done all.
func TestRateOfASummary(t *testing.T) {
	var text bytes.Buffer
	u := newUI(io.Discard, &text)
	showReport(u, &metalcast.Report{Resumed: true, Seconds: 2, Device: "cpu"})
	assert.Contains(t, text.String(), "2.0 s, peak memory ")
	showReport(u, &metalcast.Report{Seconds: 2, BytesRead: 2 << 20, BytesWritten: 2 << 20})
	assert.Contains(t, text.String(), "2.0 s, 2.0 MiB/s read and written, peak memory ")
}

// What differs is named shard by shard, of each the first few, and of many shards the first.
func TestVerificationDoesNotFlood(t *testing.T) {
	shown := func(shards string) []string {
		r := &metalcast.Verification{Sample: 1, Problems: []string{"z: is 3 bytes long, 4 were written; 70 tensors end behind that"}, CutOff: []metalcast.CutShard{{Name: "z", Tensors: 70}}}
		for i := range 30 * len(shards) {
			r.Differences = append(r.Differences, metalcast.TensorProblem{Shard: shards[i%len(shards):][:1], Tensor: strings.Repeat("x", i), Bytes: 1})
		}
		var text bytes.Buffer
		showVerification(newUI(io.Discard, &text), r)
		return strings.Split(strings.TrimSpace(text.String()), "\n")
	}
	lines := shown("ac")
	require.Len(t, lines, 1+2*(10+1))
	assert.Equal(t, "metalcast: problem: z: is 3 bytes long, 4 were written; 70 tensors end behind that", lines[0], "of a shard that is cut one line")
	assert.Equal(t, "metalcast: problem: a: and 20 tensors more", lines[11])
	assert.Equal(t, "metalcast: problem: c: and 20 tensors more", lines[22])
	lines = shown("abcdefgh")
	require.Len(t, lines, 1+2*(10+1)+6)
	assert.Equal(t, "metalcast: problem: h: 30 tensors, different from what was recomputed", lines[28])
}
