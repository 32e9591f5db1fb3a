package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"sync"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/dustin/go-humanize"
	"golang.org/x/term"

	"github.com/metalcast/metalcast"
	"github.com/metalcast/metalcast/internal/fault"
)

// ui prints what the program says. Standard output holds only results: tables, --json, a path.
// Everything else goes to standard error after "metalcast:", without a capital at the start and a
// full stop at the end. A hint is a line of its own.
type ui struct {
	out   *output
	err   io.Writer
	quiet bool
	json  bool

	events *events    // of --progress json; otherwise nil
	mu     sync.Mutex // guards err, because any goroutine may warn
	bar    *bar
	last   time.Time // of the last line of progress, if there is no bar
}

func newUI(stdout, stderr io.Writer) *ui { return &ui{out: &output{w: stdout}, err: stderr} }

// output is standard output. It keeps its first error and writes nothing after it.
type output struct {
	w   io.Writer
	err error
}

func (o *output) Write(p []byte) (n int, err error) {
	if o.err == nil {
		n, o.err = o.w.Write(p)
	}
	return n, o.err
}

// reportLost reports that a result could not be written. It is silent on EPIPE: the reader has
// gone.
func (u *ui) reportLost() {
	if !errors.Is(u.out.err, syscall.EPIPE) {
		cause := u.out.err
		var at *fs.PathError
		if errors.As(cause, &at) {
			cause = at.Err
		}
		u.errorf("error: standard output: %s", cause)
	}
}

// linef writes one line of a result.
func (u *ui) linef(format string, args ...any) {
	fmt.Fprintln(u.out, plain(fmt.Sprintf(format, args...)))
}

// path writes a path as a result: unchanged for programs, escaped for a terminal.
func (u *ui) path(p string) {
	if isTerminal(u.out.w) {
		p = plain(p)
	}
	fmt.Fprintln(u.out, p)
}

// table is aligned columns.
type table struct{ w *tabwriter.Writer }

func (u *ui) table() table { return table{tabwriter.NewWriter(u.out, 0, 0, 2, ' ', 0)} }

func (t table) row(cells ...string) {
	for i := range cells {
		cells[i] = plain(cells[i])
	}
	fmt.Fprintln(t.w, strings.Join(cells, "\t"))
}

// fact is a row of a name and its value.
func (t table) fact(name, format string, args ...any) { t.row(name, fmt.Sprintf(format, args...)) }

func (t table) flush() { t.w.Flush() }

// errorf prints what must be said even with --quiet. A bar makes room for it.
func (u *ui) errorf(format string, args ...any) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.bar != nil {
		u.bar.clear()
	}
	text := plain(fmt.Sprintf(format, args...))
	if u.events != nil {
		u.events.message(text)
		return
	}
	fmt.Fprintln(u.err, "metalcast: "+text)
}

// messagef prints what a person may want to know.
func (u *ui) messagef(format string, args ...any) {
	if !u.quiet {
		u.errorf(format, args...)
	}
}

// warningf prints what a person should look at.
func (u *ui) warningf(format string, args ...any) { u.messagef("warning: "+format, args...) }

// report says why the program ends without its result.
func (u *ui) report(err error, code int) {
	var bug *fault.Panic
	if errors.As(err, &bug) {
		defer fmt.Fprintf(u.err, "%s", bug.Stack)
	}
	var told alreadyShown
	if u.json && (errors.As(err, &told) || u.printJSONError(err, code) == nil) {
		return
	}
	switch code {
	case exitInterrupted:
		u.errorf("%s", interruption(err))
	case exitNothing:
		u.path(metalcast.UsableDir(err))
		u.messagef("%s", oneLine(err))
	default:
		u.errorf("error: %s", oneLine(err))
	}
	if hint := metalcast.Hint(err); hint != "" && !(code == exitNothing && u.quiet) {
		u.errorf("hint: %s", hint)
	}
	if kept := keptIn(err); kept != "" {
		again := "the same command resumes it, --restart starts over"
		if errors.Is(err, metalcast.ErrCorrupt) {
			again = "--restart removes it"
			if hint := metalcast.Hint(err); strings.Contains(hint, "--nan-policy") || strings.Contains(hint, "--allow-overflow") {
				again = "with that option the same command resumes it"
			}
		}
		u.errorf("hint: what was done is in %s; %s", path(kept), again)
	}
}

// keptIn returns the directory with the work of a conversion that ended early, or "".
func keptIn(err error) string {
	var kept *metalcast.Interrupted
	if errors.As(err, &kept) {
		return kept.Partial
	}
	return ""
}

// interruption says what an interrupt left behind, by the errors that are joined to err.
func interruption(err error) string {
	left := besidesCanceled(err)
	switch {
	case len(left) == 0 && keptIn(err) != "":
		return "interrupted"
	case len(left) == 0:
		return "interrupted; nothing was left behind"
	}
	return "interrupted; " + oneLine(errors.Join(left...))
}

func besidesCanceled(err error) (list []error) {
	if !errors.Is(err, context.Canceled) {
		return []error{err}
	}
	var kept *metalcast.Interrupted
	if errors.As(err, &kept) {
		err = kept.Err
	}
	var at *fault.Error
	// Its kind and cause are not separate errors.
	if errors.As(err, &at) && at == err { //nolint:errorlint
		return nil
	}
	// As errors.Join makes it.
	if joined, ok := err.(interface{ Unwrap() []error }); ok { //nolint:errorlint
		for _, e := range joined.Unwrap() {
			list = append(list, besidesCanceled(e)...)
		}
	}
	return list
}

func oneLine(err error) string { return strings.ReplaceAll(err.Error(), "\n", "; ") }

func (u *ui) printJSONError(err error, code int) error {
	text := oneLine(err)
	if code == exitInterrupted {
		text = interruption(err)
	}
	return u.printJSON(struct {
		Error  string `json:"error"`
		Hint   string `json:"hint,omitempty"`
		Source string `json:"source,omitempty"` // usable as it is
		// The directory with what was done; the same command resumes it.
		Kept     string `json:"kept,omitempty"`
		ExitCode int    `json:"exit_code"`
	}{text, metalcast.Hint(err), metalcast.UsableDir(err), keptIn(err), code})
}

func (u *ui) printJSON(v any) error {
	e := json.NewEncoder(u.out)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// progressEvery is how often a line is written if standard error is not a terminal.
const progressEvery = 10 * time.Second

// progress shows a bar on a terminal, and a line now and then elsewhere.
func (u *ui) progress(phase string, done, total int64) {
	if u.quiet {
		return
	}
	if !isTerminal(u.err) {
		switch now := time.Now(); {
		case done == 0:
			u.last = now
		case now.Sub(u.last) >= progressEvery:
			u.last = now
			u.messagef("%s: %s of %s (%d %%)", phase, humanize.IBytes(uint64(done)), humanize.IBytes(uint64(total)), 100*done/max(total, 1))
		}
		return
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.bar == nil || u.bar.phase != phase {
		u.removeBar()
		u.bar = newBar(u.err, phase, done, columnsOf(u.err), time.Now)
	}
	u.bar.update(done, total)
}

func (u *ui) endProgress() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.removeBar()
}

func (u *ui) removeBar() {
	if u.bar != nil {
		u.bar.clear()
		u.bar = nil
	}
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd())) && os.Getenv("TERM") != "dumb"
}

// count returns "1 tensor", "3 tensors".
func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return humanize.Comma(int64(n)) + " " + noun + "s"
}

func bytesText(n int64) string { return humanize.IBytes(uint64(max(n, 0))) }
