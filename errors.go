package metalcast

import (
	"errors"

	"github.com/metalcast/metalcast/internal/fault"
)

// The causes of errors, for errors.Is. The text of every error names the file or tensor, what was
// found there and what was expected.
var (
	ErrCorrupt     = fault.ErrCorrupt     // the checkpoint contradicts itself
	ErrIncomplete  = fault.ErrIncomplete  // something the checkpoint needs is not there
	ErrUnsupported = fault.ErrUnsupported // sound, but this version cannot process it
	ErrNoSpace     = fault.ErrNoSpace     // not enough disk or memory
	ErrMismatch    = fault.ErrMismatch    // what is on disk differs from what was computed
	ErrNoDevice    = fault.ErrNoDevice    // no Metal device
	ErrNothingToDo = fault.ErrNothingToDo // the source is usable as it is
	ErrUsage       = fault.ErrUsage       // the options contradict each other
)

// Hint returns the line that suggests what to do about an error, or "".
func Hint(err error) string { return fault.Hint(err) }

// UsableDir returns the directory of an ErrNothingToDo: the source, usable as it is. For other
// errors it is "".
func UsableDir(err error) string {
	var e *fault.Error
	if errors.Is(err, ErrNothingToDo) && errors.As(err, &e) {
		return e.Where
	}
	return ""
}
