//go:build !linux

package partial

import (
	"os"

	"github.com/metalcast/metalcast/internal/engine"
)

// writer splits what starts off a page boundary in two: on macOS uncached data is written at once,
// and the system paces the rest.
type writer struct{}

func (*writer) write(f *os.File, extents []engine.Extent) error {
	return writeFromPage(f, extents, directPage)
}

// forget does nothing here: macOS also reads the files past the cache, unless they are in it.
func forget(*os.File, int64) {}
