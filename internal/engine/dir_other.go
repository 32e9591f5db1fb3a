//go:build !linux && !darwin

package engine

import "os"

func preallocate(f *os.File, size int64) error { return f.Truncate(size) }

type pacer struct{}

func (*pacer) write(f *os.File, b []byte, off int64) (int, error) { return f.WriteAt(b, off) }

// forget has no counterpart here.
func forget(*os.File, int64) {}
