//go:build !linux

package engine

import "os"

// writer has nothing to do: on macOS uncached writes leave at once.
type writer struct{}

func (*writer) write(f *os.File, b []byte, off int64) (int, error) { return f.WriteAt(b, off) }

// forget has no counterpart here, and on macOS uncached writes leave nothing behind.
func forget(*os.File, int64) {}
