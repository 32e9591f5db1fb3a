//go:build !linux

package engine

import "os"

// writer has nothing to do: on macOS uncached writes leave at once.
type writer struct{}

func (*writer) write(f *os.File, extents []Extent) error {
	for _, x := range extents {
		if _, err := f.WriteAt(x.Data, x.Off); err != nil {
			return err
		}
	}
	return nil
}

// forget has no counterpart here, and on macOS uncached writes leave nothing behind.
func forget(*os.File, int64) {}
