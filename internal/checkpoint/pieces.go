package checkpoint

import (
	"io"

	"golang.org/x/sync/errgroup"
)

// pieces is how a long read is cut if the system bypasses its cache only for what begins at a
// multiple of a page, and does not read ahead: a head up to that page, whole pages by several
// concurrent reads, a tail. The zero value reads at once.
type pieces struct {
	page   int64 // a power of two; 0: nothing is cut
	flight int   // most concurrent reads
	least  int64 // whole pages worth a read of their own, in bytes; a multiple of page
}

// readAt is f.ReadAt(p, off). The pieces are slices of p, so it needs no memory that grows; of
// several errors it returns the one for the first bytes.
func (c pieces) readAt(f io.ReaderAt, p []byte, off int64) (n int, err error) {
	if c.page == 0 {
		return f.ReadAt(p, off)
	}
	ends := c.cut(off, int64(len(p)))
	if len(ends) == 1 {
		return f.ReadAt(p, off)
	}
	type result struct {
		n   int
		err error
	}
	results := make([]result, len(ends))
	var g errgroup.Group
	g.SetLimit(c.flight)
	begin := int64(0)
	for i, end := range ends {
		piece, at := p[begin:end], off+begin
		g.Go(func() error {
			results[i].n, results[i].err = f.ReadAt(piece, at)
			return nil // the others continue: which error is returned must not depend on which came first
		})
		begin = end
	}
	_ = g.Wait()
	begin = 0
	for i, end := range ends {
		n += results[i].n
		if results[i].n < int(end-begin) {
			return n, results[i].err
		}
		begin = end
	}
	return n, results[len(results)-1].err // ReadAt may return io.EOF with the last bytes of a file
}

// cut returns where the pieces of a read of n bytes at off end, relative to off.
func (c pieces) cut(off, n int64) (ends []int64) {
	head := -off & (c.page - 1)
	body := (n - head) &^ (c.page - 1)
	if body < c.least {
		return []int64{n}
	}
	if head > 0 {
		ends = append(ends, head)
	}
	reads := min(int64(c.flight), body/c.least)
	for i := range reads {
		ends = append(ends, head+body/c.page*(i+1)/reads*c.page)
	}
	if head+body < n {
		ends = append(ends, n)
	}
	return ends
}
