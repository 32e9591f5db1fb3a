package main

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/creack/pty"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/metalcast/metalcast/internal/needtest"
	"github.com/metalcast/metalcast/internal/temptest"
)

const mib = 1 << 20

// widths are those of a wide terminal, the usual one, half of it and a sliver.
var widths = []int{200, 80, 40, 20}

// screen is what a terminal of so many columns shows. It knows what a bar may send, and nothing
// else.
type screen struct {
	t       *testing.T
	columns int
	lines   []string
	column  int
}

func newScreen(t *testing.T, columns int) *screen {
	return &screen{t: t, columns: columns, lines: []string{""}}
}

func (s *screen) Write(p []byte) (int, error) {
	for _, c := range p {
		last := &s.lines[len(s.lines)-1]
		switch {
		case c == '\r':
			s.column = 0
		case c == '\b':
			s.column = max(s.column-1, 0)
		case c == '\n':
			s.lines = append(s.lines, strings.Repeat(" ", s.column))
		case c >= ' ' && c < 0x7f:
			if s.column == s.columns {
				s.lines, s.column = append(s.lines, ""), 0
				last = &s.lines[len(s.lines)-1]
			}
			*last += strings.Repeat(" ", max(s.column+1-len(*last), 0))
			*last = (*last)[:s.column] + string(c) + (*last)[s.column+1:]
			s.column++
		default:
			s.t.Errorf("byte 0x%02x reached the terminal", c)
		}
	}
	return len(p), nil
}

// text is the screen without the blanks at the ends of lines.
func (s *screen) text() string {
	lines := make([]string, len(s.lines))
	for i, l := range s.lines {
		lines[i] = strings.TrimRight(l, " ")
	}
	return strings.Join(lines, "\n")
}

// terminal opens a pseudo-terminal: what a program writes into tty a terminal reads from screen.
func terminal(t *testing.T, columns int) (master, tty *os.File) {
	t.Helper()
	master, tty, err := pty.Open()
	if err != nil {
		needtest.Skip(t, "system", "no pseudo-terminal: %v", err)
	}
	t.Cleanup(func() { master.Close(); tty.Close() })
	require.NoError(t, pty.Setsize(master, &pty.Winsize{Rows: 24, Cols: uint16(columns)}))
	t.Setenv("TERM", "xterm-256color")
	return master, tty
}

// At every width the bar stays on its line through all updates, and nothing of it is left behind.
func TestBarStaysOnOneLine(t *testing.T) {
	want := map[int]string{
		200: "converting  3.3/11 GiB   30 %   341 MiB/s  ETA 0:23",
		80:  "converting  3.3/11 GiB   30 %   341 MiB/s  ETA 0:23",
		40:  "converting   30 %   341 MiB/s  ETA 0:23",
		20:  "converting   30 %",
		12:  "30 %",
		3:   "",
	}
	for columns, line := range want {
		master, tty := terminal(t, columns)
		now := time.Unix(0, 0)
		b := newBar(tty, "converting", 0, columnsOf(tty), func() time.Time { return now })
		s := newScreen(t, columns)
		const total = 11 << 30
		for i := range 101 {
			b.update(int64(i)*total/330, total)
			now = now.Add(drawEvery)
			copyWritten(t, s, master, tty)
			require.Len(t, s.lines, 1, "%d columns, update %d: %s", columns, i, s.text())
			require.Less(t, s.column, max(columns, 1), "the last column is never filled")
		}
		assert.Equal(t, line, s.text(), "%d columns", columns)
		b.clear()
		copyWritten(t, s, master, tty)
		assert.Equal(t, "", s.text(), "%d columns", columns)
	}
}

// copyWritten shows what has been written into tty so far.
func copyWritten(t *testing.T, s *screen, master, tty *os.File) {
	t.Helper()
	const mark = "\x00"
	_, err := tty.WriteString(mark)
	require.NoError(t, err)
	p := make([]byte, 4096)
	for {
		n, err := master.Read(p)
		require.NoError(t, err)
		text, ended := bytes.CutSuffix(p[:n], []byte(mark))
		_, _ = s.Write(text)
		if ended {
			return
		}
	}
}

// A window that is resized gets what it has room for now; one without a size counts as 80 columns.
func TestBarOfAResizedWindow(t *testing.T) {
	master, tty := terminal(t, 80)
	columns := columnsOf(tty)
	for _, x := range []struct{ set, want int }{{20, 20}, {200, 200}, {0, 80}} {
		require.NoError(t, pty.Setsize(master, &pty.Winsize{Cols: uint16(x.set)}))
		assert.Equal(t, x.want, columns())
	}
	assert.Equal(t, 80, columnsOf(io.Discard)())

	width, now := 80, time.Unix(0, 0)
	var sent bytes.Buffer
	b := newBar(&sent, "converting", 0, func() int { return width }, func() time.Time { return now })
	for _, width = range []int{80, 30, 20, 7, 1, 0, 30, 80} {
		now = now.Add(5 * time.Second)
		sent.Reset()
		b.update(500*mib, 1000*mib)
		s := newScreen(t, max(width, 1))
		_, _ = s.Write(sent.Bytes())
		assert.Len(t, s.lines, 1, "%d columns", width)
	}
}

// Rate and time are of this run's bytes: not of those that an earlier run did, nor of a first
// moment.
func TestBarCountsThisRun(t *testing.T) {
	now := time.Unix(0, 0)
	b := newBar(io.Discard, "converting", 700*mib, func() int { return 80 }, func() time.Time { return now })
	text := func(done int64, after time.Duration) string { return b.text(done*mib, 1000*mib, after) }
	assert.Equal(t, "converting   700/1000 MiB   70 %", text(700, 0))
	assert.Equal(t, "converting   730/1000 MiB   73 %", text(730, time.Millisecond), "30 GiB/s are no rate")
	assert.Equal(t, "converting   800/1000 MiB   80 %    10 MiB/s  ETA 0:20", text(800, 10*time.Second))
	assert.Equal(t, "converting   700/1000 MiB   70 %", text(700, time.Minute), "of nothing there is no rate")
	assert.Equal(t, "converting  1000/1000 MiB  100 %    10 MiB/s  ETA 0:00", text(1000, 30*time.Second))
	assert.Equal(t, "converting  0.0/11 GiB    0 %", b.text(0, 11<<30, time.Hour))
	assert.Equal(t, "converting    0/1 B    0 %", b.text(0, 0, time.Hour), "of nothing")
	for seconds, want := range map[float64]string{0.4: "0:00", 59.6: "1:00", 3599: "59:59", 3600: "1:00:00", 86399: "23:59:59", 1e30: "99:00:00", -1: "0:00"} {
		assert.Equal(t, want, clock(seconds))
	}
}

// What is said while the bar is there takes its line, and the bar comes back below.
func TestMessageBesideTheBar(t *testing.T) {
	master, tty := terminal(t, 80)
	u := newUI(io.Discard, tty)
	s := newScreen(t, 80)
	u.progress("converting", 300*mib, 1000*mib)
	copyWritten(t, s, master, tty)
	assert.Equal(t, "converting   300/1000 MiB   30 %", s.text())
	assert.EqualValues(t, 300*mib, u.bar.first, "what an earlier run did")
	u.warningf("the GPU failed")
	u.progress("converting", 400*mib, 1000*mib)
	copyWritten(t, s, master, tty)
	assert.Equal(t, "metalcast: warning: the GPU failed\nconverting   400/1000 MiB   40 %", s.text())
	u.progress("verifying", 0, 1000*mib)
	copyWritten(t, s, master, tty)
	assert.Equal(t, "metalcast: warning: the GPU failed\nverifying   0.0/1000 MiB    0 %", s.text())
	_, _ = tty.WriteString("^C") // as a terminal echoes it
	u.endProgress()
	u.errorf("interrupted")
	copyWritten(t, s, master, tty)
	assert.Equal(t, "metalcast: warning: the GPU failed\nmetalcast: interrupted\n", s.text())
}

// The program itself on terminals of all widths: a bar is drawn, in place, and what stays are the
// lines that it says.
func TestProgramOnATerminal(t *testing.T) {
	needtest.Alone(t)
	src, widths := synthetic(t, "--size", "50MB"), widths
	if !needtest.Long() {
		widths = []int{40} // the bar itself is tried at all of them
	}
	drawn := regexp.MustCompile(`\r(converting|verifying|measuring|scanning)? *[^\r\n]*\d+ %`)
	for _, columns := range widths {
		dst := filepath.Join(temptest.Dir(t), "dst")
		q4 := dst + "-q4"
		for _, args := range [][]string{
			{"convert", src, dst, "--device", "cpu", "--verify"}, {"verify", src, dst, "--device", "cpu"}, {"inspect", src, "--scan"},
			{"convert", src, q4, "--device", "cpu", "-q"}, {"verify", src, q4, "--device", "cpu", "--error"},
		} {
			master, tty := terminal(t, columns)
			c := exec.Command("metalcast", args...)
			c.Stderr = tty
			require.NoError(t, c.Start())
			require.NoError(t, tty.Close())
			sent, _ := io.ReadAll(master) // ends with an error where all have closed it
			require.NoError(t, c.Wait(), "%s", sent)
			assert.Regexp(t, drawn, string(sent), "%d columns, %v", columns, args)
			wide, real := newScreen(t, 1<<20), newScreen(t, columns)
			_, _ = io.MultiWriter(wide, real).Write(sent)
			lines := 0
			for _, line := range strings.Split(strings.TrimSuffix(wide.text(), "\n"), "\n") {
				assert.Regexp(t, "^(metalcast: .*|)$", line, "%d columns, %v", columns, args)
				lines += max((len(line)+columns-1)/columns, 1)
			}
			assert.Len(t, strings.Split(strings.TrimSuffix(real.text(), "\n"), "\n"), lines, "%d columns, %v: only messages take lines: %s", columns, args, real.text())
		}
		require.NoError(t, os.RemoveAll(filepath.Dir(dst)))
	}
}
