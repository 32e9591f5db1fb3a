package partial

import (
	"io"

	"github.com/metalcast/metalcast/internal/engine"
)

// directPage is where a write must begin for macOS to send it past the cache (F_NOCACHE): of one that begins elsewhere all bytes are copied there.
const directPage = 16 << 10

// blocks is where the first whole block of n bytes at off begins and the last one ends, counted from off; both are n where there is none. block is a power of two.
func blocks(off int64, n, block int) (first, last int) {
	first = int(-off & int64(block-1))
	if n < first+block {
		return n, n
	}
	return first, first + (n-first)&^(block-1)
}

// writeFromPage writes long extents so that what begins with their first page is a write of its own, of whole pages.
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
