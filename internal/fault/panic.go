package fault

import (
	"fmt"
	"runtime/debug"
)

// Panic is a bug of metalcast's own, as an error.
type Panic struct {
	Value any
	Stack []byte
}

func (e *Panic) Error() string {
	return fmt.Sprintf("internal error: %v; please report this", e.Value)
}

// Recovered runs f and turns a panic into an error, so that what was begun is cleaned up and the exit status is not Go's, which is that of a usage error.
func Recovered(f func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &Panic{v, debug.Stack()}
		}
	}()
	return f()
}
