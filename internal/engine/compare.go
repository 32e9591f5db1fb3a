package engine

import (
	"bytes"
	"fmt"

	"github.com/metalcast/metalcast/internal/fault"
	"github.com/metalcast/metalcast/internal/plan"
)

// ReaderAt gives the bytes of output shards.
type ReaderAt interface {
	ReadAt(shard int, p []byte, off int64) error
}

// Discard is the Sink that keeps nothing.
type Discard struct{}

// WriteAt does nothing.
func (Discard) WriteAt(int, []byte, int64) error { return nil }

// Comparer is the Sink that writes nothing and compares: what is on disk against what was computed again.
type Comparer struct {
	Plan *plan.Plan
	Disk ReaderAt

	buf []byte
}

// WriteAt fails with ErrMismatch, naming shard, tensor and byte, where the disk holds something else than p.
func (c *Comparer) WriteAt(shard int, p []byte, off int64) error {
	if len(c.buf) == 0 {
		c.buf = make([]byte, 1<<20)
	}
	for len(p) > 0 {
		got := c.buf[:min(len(p), len(c.buf))]
		if err := c.Disk.ReadAt(shard, got, off); err != nil {
			return &fault.Error{Where: c.Plan.Shards[shard].Name, What: fmt.Sprintf("read at byte %d", off), Err: err}
		}
		if want := p[:len(got)]; !bytes.Equal(got, want) {
			i := 0
			for got[i] == want[i] {
				i++
			}
			return c.mismatch(shard, off+int64(i), got[i], want[i])
		}
		p, off = p[len(got):], off+int64(len(got))
	}
	return nil
}

func (c *Comparer) mismatch(shard int, off int64, got, want byte) error {
	where := c.Plan.Shards[shard].Name
	for i := range c.Plan.Tensors {
		if t := &c.Plan.Tensors[i]; t.Shard == shard && off >= t.Offset && off < t.Offset+t.Size {
			where += fmt.Sprintf(": tensor %q, byte %d", t.Name, off-t.Offset)
		}
	}
	return fault.New(fault.ErrMismatch, where, "is 0x%02x on disk, computed again it is 0x%02x", got, want)
}
