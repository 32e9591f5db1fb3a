package partial

import (
	"io"

	"github.com/metalcast/metalcast/internal/engine"
)

// directPage is the alignment that a write needs on macOS to bypass the cache (F_NOCACHE): all
// bytes of one that starts elsewhere are copied into it.
const directPage = 16 << 10

// blocks returns where the first whole block of n bytes at off starts and where the last one ends,
// relative to off. Both are n if there is no whole block. block is a power of two.
func blocks(off int64, n, block int) (first, last int) {
	first = int(-off & int64(block-1))
	if n < first+block {
		return n, n
	}
	return first, first + (n-first)&^(block-1)
}

// writeFromPage splits long extents, so that everything from their first page boundary on is a
// separate write of whole pages.
func writeFromPage(f io.WriterAt, extents []engine.Extent, page int) error {
	for _, x := range extents {
		first, last := len(x.Data), len(x.Data)
		if len(x.Data) >= engine.LongRun {
			first, last = blocks(x.Off, len(x.Data), page)
		}
		begin := 0
		for _, end := range []int{first, last, len(x.Data)} {
			if end == begin {
				continue
			}
			if _, err := f.WriteAt(x.Data[begin:end], x.Off+int64(begin)); err != nil {
				return err
			}
			begin = end
		}
	}
	return nil
}
