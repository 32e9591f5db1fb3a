package main

import (
	"fmt"
	"io"
	"math"
	"os"
	"strings"
	"time"

	"golang.org/x/term"
)

// drawEvery is how often the bar is drawn.
const drawEvery = 100 * time.Millisecond

// bar is one line of a terminal that is overwritten until the work is done. It never fills the
// line's last column, after which terminals start a new line.
type bar struct {
	w       io.Writer
	columns func() int
	now     func() time.Time

	phase string
	first int64     // bytes done when the phase began, by an earlier run
	began time.Time // of the phase
	drawn time.Time
	line  string // what the terminal shows
}

// newBar starts a phase. Its rate and time count from here.
func newBar(w io.Writer, phase string, done int64, columns func() int, now func() time.Time) *bar {
	return &bar{w: w, columns: columns, now: now, phase: phase, first: done, began: now()}
}

// update draws what is done, unless it has just been drawn.
func (b *bar) update(done, total int64) {
	now := b.now()
	if now.Sub(b.drawn) < drawEvery {
		return
	}
	b.drawn = now
	b.write(b.text(done, total, now.Sub(b.began)))
}

// clear leaves an empty line, for something else to be written there.
func (b *bar) clear() {
	if b.line != "" {
		b.write("")
	}
	b.drawn = time.Time{}
}

// write replaces the line, and a ^C that the terminal has appended. It uses blanks, because not
// every console knows the escape sequence that erases.
func (b *bar) write(line string) {
	blanks := max(min(len(b.line)+len("^C"), b.room())-len(line), 0)
	fmt.Fprint(b.w, "\r"+line+strings.Repeat(" ", blanks)+strings.Repeat("\b", blanks))
	b.line = line
}

func (b *bar) room() int { return max(b.columns()-1, 0) }

// settled is how long a rate is measured before it is shown.
const settled = time.Second

// text returns as much as the line has room for. Fields have a fixed width, so that they neither
// move nor come and go with each digit.
func (b *bar) text(done, total int64, elapsed time.Duration) string {
	total = max(total, 1)
	percent := fmt.Sprintf("%3d %%", min(100*done/total, 100))
	rate, left := "", ""
	if mine := done - b.first; mine > 0 && elapsed >= settled {
		perSecond := float64(mine) / elapsed.Seconds()
		rate = bytesText(int64(perSecond)) + "/s"
		left = "ETA " + clock(float64(total-done)/perSecond)
	}
	rate, left = fmt.Sprintf("%10s", rate), fmt.Sprintf("%-8s", left)
	for _, fields := range [][]string{
		{b.phase, amounts(done, total), percent, rate, left}, {b.phase, percent, rate, left}, {b.phase, percent, left}, {b.phase, percent}, {strings.TrimSpace(percent)},
	} {
		if line := strings.Join(fields, "  "); len(line) <= b.room() {
			return strings.TrimRight(line, " ")
		}
	}
	return ""
}

// amounts returns "3.9/11 GiB", in the unit of the total, and always equally wide.
func amounts(done, total int64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB", "PiB"}
	unit := 0
	for size := total; size >= 1<<10 && unit < len(units)-1; size >>= 10 {
		unit++
	}
	number := func(n int64) string {
		x := float64(n) / float64(int64(1)<<(10*unit))
		if unit > 0 && x < 9.95 {
			return fmt.Sprintf("%.1f", x)
		}
		return fmt.Sprintf("%.0f", x)
	}
	whole := number(total)
	return fmt.Sprintf("%*s/%s %s", max(len(whole), 3), number(done), whole, units[unit])
}

// clock returns seconds as 0:07, 12:30 or 3:05:00.
func clock(seconds float64) string {
	s := int64(min(max(math.Round(seconds), 0), 99*3600))
	if s >= 3600 {
		return fmt.Sprintf("%d:%02d:%02d", s/3600, s/60%60, s%60)
	}
	return fmt.Sprintf("%d:%02d", s/60, s%60)
}

// columnsOf asks a terminal for its width each time, because windows are resized. If it does not
// know, it is taken to have 80.
func columnsOf(w io.Writer) func() int {
	return func() int {
		if f, ok := w.(*os.File); ok {
			if columns, _, err := term.GetSize(int(f.Fd())); err == nil && columns > 0 {
				return columns
			}
		}
		return 80
	}
}
