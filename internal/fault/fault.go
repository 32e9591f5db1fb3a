// Package fault defines the form of every error that metalcast shows: a kind that determines the
// exit status, where the problem is, what was found there and what was expected, and at most one
// hint about what to do.
package fault

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode"

	"github.com/dustin/go-humanize"
)

// The kinds of errors. The root package exports them; errors.Is finds them through any wrapping.
var (
	ErrCorrupt     = errors.New("malformed checkpoint")
	ErrIncomplete  = errors.New("incomplete checkpoint")
	ErrUnsupported = errors.New("unsupported")
	ErrNoSpace     = errors.New("not enough disk or memory")
	ErrMismatch    = errors.New("output differs")
	ErrNoDevice    = errors.New("no Metal device")
	ErrNothingToDo = errors.New("nothing to convert")
	ErrUsage       = errors.New("usage")
)

// Error states one problem in one location. It reads "where: what".
type Error struct {
	Kind  error  // one of the kinds above, or nil for a plain failure
	Where string // a file, a tensor, "layer 3, up_proj"; may be empty
	What  string // what was found, what was expected
	Hint  string // one line a user can act on; may be empty
	Err   error  // the cause, if it is an error of another package
}

// Error returns "where: what: cause", without the hint.
func (e *Error) Error() string {
	var parts []string
	for _, s := range []string{e.Where, e.What} {
		if s != "" {
			parts = append(parts, readable(s))
		}
	}
	if e.Err != nil {
		parts = append(parts, shortened(e.Err.Error()))
	}
	return strings.Join(parts, ": ")
}

// most is the maximum length of a part of a message, in bytes: names and values come from
// checkpoints and may have any length.
const most = 1200

// shortened removes the middle of a string that is too long to read.
func shortened(s string) string {
	if len(s) <= most {
		return s
	}
	head, tail := s[:most*2/3], s[len(s)-most/3:]
	return strings.ToValidUTF8(head, "") + fmt.Sprintf(" ...(%d bytes)... ", len(s)-len(head)-len(tail)) + strings.ToValidUTF8(tail, "")
}

// readable returns s shortened and with unprintable characters escaped.
func readable(s string) string {
	s = shortened(s)
	if !strings.ContainsFunc(s, unicode.IsControl) {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if unicode.IsControl(r) {
			q := strconv.QuoteRune(r)
			b.WriteString(q[1 : len(q)-1])
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}

// Unwrap lets errors.Is find both the kind and the cause.
func (e *Error) Unwrap() []error {
	var list []error
	for _, err := range []error{e.Kind, e.Err} {
		if err != nil {
			list = append(list, err)
		}
	}
	return list
}

// WithHint adds a line that suggests what to do.
func (e *Error) WithHint(format string, args ...any) *Error {
	e.Hint = fmt.Sprintf(format, args...)
	return e
}

// WithHint returns err with another hint, if it is an Error.
func WithHint(err error, hint string) error {
	var e *Error
	if !errors.As(err, &e) {
		return err
	}
	c := *e
	c.Hint = hint
	return &c
}

// New returns an error of the given kind.
func New(kind error, where, format string, args ...any) *Error {
	return &Error{Kind: kind, Where: where, What: fmt.Sprintf(format, args...)}
}

// Corrupt returns an error for a file that contradicts itself or its neighbours.
func Corrupt(where, format string, args ...any) *Error {
	return New(ErrCorrupt, where, format, args...)
}

// Incomplete returns an error for something that a checkpoint needs and does not have.
func Incomplete(where, format string, args ...any) *Error {
	return New(ErrIncomplete, where, format, args...)
}

// Unsupported returns an error for sound input that metalcast cannot process.
func Unsupported(where, format string, args ...any) *Error {
	return New(ErrUnsupported, where, format, args...)
}

// In prefixes err with a location: "place: where: what". Kind, hint and cause stay the same.
func In(place string, err error) error {
	e, ok := err.(*Error) //nolint:errorlint // only an unwrapped Error can be extended in place
	if !ok {
		return &Error{Where: place, Err: err, Hint: Hint(err)}
	}
	c := *e
	if c.Where != "" {
		c.Where = place + ": " + c.Where
	} else {
		c.Where = place
	}
	return &c
}

// Hint returns the first hint found in err's chain, or "".
func Hint(err error) string {
	var e *Error
	for errors.As(err, &e) {
		if e.Hint != "" {
			return readable(e.Hint)
		}
		if e.Err == nil {
			return ""
		}
		err = e.Err
	}
	return ""
}

// Plural returns a number with its noun: "1 tensor", "1,597 tensors".
func Plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return humanize.Comma(int64(n)) + " " + many
}
