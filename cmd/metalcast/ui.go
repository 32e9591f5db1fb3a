package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"

	"github.com/metalcast/metalcast"
)

// ui is the program's voice. Standard output holds results only: tables, --json, a path. Everything else goes to standard error with a
// "metalcast:" in front; no capitals at the start, no full stop at the end. A hint is a line of its own.
type ui struct {
	out, err io.Writer
	quiet    bool
	json     bool

	bar   *progressbar.ProgressBar
	phase string
	last  time.Time // of the last line of progress, where there is no bar
}

func (u *ui) printf(format string, args ...any) { fmt.Fprintf(u.out, format, args...) }

// messagef tells what a person may want to know.
func (u *ui) messagef(format string, args ...any) {
	if !u.quiet {
		fmt.Fprintf(u.err, "metalcast: "+format+"\n", args...)
	}
}

// warningf tells what a person should look at.
func (u *ui) warningf(format string, args ...any) { u.messagef("warning: "+format, args...) }

// report tells why the program ends without its result.
func (u *ui) report(err error, code int) {
	switch code {
	case exitInterrupted:
		fmt.Fprintln(u.err, "metalcast: interrupted; nothing was left behind")
		return
	case exitNothing:
		u.messagef("%s", oneLine(err))
	default:
		fmt.Fprintf(u.err, "metalcast: error: %s\n", oneLine(err))
	}
	if hint := metalcast.Hint(err); hint != "" && !(code == exitNothing && u.quiet) {
		fmt.Fprintf(u.err, "metalcast: hint: %s\n", hint)
	}
	if code == exitUsage {
		fmt.Fprintln(u.err, `metalcast: hint: see "metalcast --help"`)
	}
}

func oneLine(err error) string { return strings.ReplaceAll(err.Error(), "\n", "; ") }

func (u *ui) printJSONError(err error, code int) {
	_ = u.printJSON(struct {
		Error    string `json:"error"`
		Hint     string `json:"hint,omitempty"`
		ExitCode int    `json:"exit_code"`
	}{oneLine(err), metalcast.Hint(err), code})
}

func (u *ui) printJSON(v any) error {
	e := json.NewEncoder(u.out)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// progressEvery is how often a line is written where standard error is no terminal.
const progressEvery = 10 * time.Second

// progress shows a bar on a terminal and a line now and then elsewhere.
func (u *ui) progress(phase string, done, total int64) {
	if u.quiet {
		return
	}
	if !u.isTerminal() {
		switch now := time.Now(); {
		case done == 0:
			u.last = now
		case now.Sub(u.last) >= progressEvery:
			u.last = now
			u.messagef("%s: %s of %s (%d %%)", phase, humanize.IBytes(uint64(done)), humanize.IBytes(uint64(total)), 100*done/max(total, 1))
		}
		return
	}
	if u.bar == nil || u.phase != phase {
		u.endProgress()
		u.phase = phase
		u.bar = progressbar.NewOptions64(total, progressbar.OptionSetWriter(u.err), progressbar.OptionSetDescription(phase),
			progressbar.OptionShowBytes(true), progressbar.OptionUseIECUnits(true), progressbar.OptionSetWidth(24), progressbar.OptionThrottle(100*time.Millisecond),
			progressbar.OptionClearOnFinish(), progressbar.OptionSetPredictTime(true), progressbar.OptionEnableColorCodes(false))
	}
	_ = u.bar.Set64(done)
}

func (u *ui) endProgress() {
	if u.bar != nil {
		_ = u.bar.Clear()
		u.bar = nil
	}
}

func (u *ui) isTerminal() bool {
	f, ok := u.err.(*os.File)
	return ok && term.IsTerminal(int(f.Fd())) && os.Getenv("TERM") != "dumb"
}

// count writes "1 tensor", "3 tensors".
func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return humanize.Comma(int64(n)) + " " + noun + "s"
}

func bytesText(n int64) string { return humanize.IBytes(uint64(max(n, 0))) }
