//go:build !linux

package partial

import (
	"os"

	"github.com/metalcast/metalcast/internal/engine"
)

// writer sends what begins off a page there in two: on macOS what is uncached leaves at once, and the system paces the rest.
type writer struct{}

func (*writer) write(f *os.File, extents []engine.Extent) error {
	return writeFromPage(f, extents, directPage)
}

// forget has no counterpart here; on macOS the files are read past the cache too, where they are not in it.
func forget(*os.File, int64) {}
