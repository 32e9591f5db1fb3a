package fault

import (
	"fmt"
	"runtime/debug"
)

// Panic is a bug in metalcast itself, as an error.
type Panic struct {
	Value any
	Stack []byte
}

func (e *Panic) Error() string {
	return fmt.Sprintf("internal error: %v; please report this", e.Value)
}

// Recovered runs f and turns a panic into an error, so that cleanup runs and the exit status is not
// the one of Go's panics, which means a usage error here.
func Recovered(f func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &Panic{v, debug.Stack()}
		}
	}()
	return f()
}
