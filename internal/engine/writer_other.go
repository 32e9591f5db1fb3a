//go:build !linux

package engine

import "os"

// writer has nothing to do: on macOS what is uncached leaves at once, and the system paces the rest.
type writer struct{}

func (*writer) write(f *os.File, extents []Extent) error {
	for _, x := range extents {
		if _, err := f.WriteAt(x.Data, x.Off); err != nil {
			return err
		}
	}
	return nil
}

// forget has no counterpart here; on macOS the files are read past the cache too, where they are not in it.
func forget(*os.File, int64) {}
