package engine

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"github.com/metalcast/metalcast/internal/fault"
	"github.com/metalcast/metalcast/internal/plan"
)

// ReaderAt reads the bytes of output shards.
type ReaderAt interface {
	ReadAt(shard int, p []byte, off int64) error
}

// Discard is the Sink that discards everything.
type Discard struct{}

// Write does nothing.
func (Discard) Write([]Extent) error { return nil }

// Comparer is the Sink that writes nothing and compares what is on disk with what was recomputed.
type Comparer struct {
	Plan *plan.Plan
	Disk ReaderAt
	// Most is how many differing tensors are collected in Found before the run ends; 0: the first ends
	// it.
	Most  int
	Found []Mismatch

	buf []byte
}

// Mismatch is a tensor of the output that differs from the recomputed one.
type Mismatch struct {
	Shard     string
	Tensor    string
	Byte      int64   // the first that differs, from the tensor's start
	Index     []int64 // of the element that holds it
	Got, Want byte
	Bytes     int64 // that differ, among those compared
}

// Where describes the element in words: expert and row in a stack, row in a matrix.
func (m *Mismatch) Where() string {
	names := []string{"element"}
	switch len(m.Index) {
	case 0:
		return "the scalar"
	case 1:
	case 2:
		names = []string{"row", "column"}
	case 3:
		names = []string{"matrix", "row", "column"}
		if strings.Contains(m.Tensor, "experts.") || strings.Contains(m.Tensor, "switch_mlp.") || strings.Contains(m.Tensor, ".moe.") {
			names[0] = "expert"
		}
	default:
		return fmt.Sprintf("element %v", m.Index)
	}
	segments := make([]string, len(names))
	for i, name := range names {
		segments[i] = fmt.Sprintf("%s %d", name, m.Index[i])
	}
	return strings.Join(segments, ", ")
}

// Err returns the mismatch as an error.
func (m *Mismatch) Err() error {
	return fault.New(fault.ErrMismatch, fmt.Sprintf("%s: tensor %q, %s (byte %d)", m.Shard, m.Tensor, m.Where(), m.Byte),
		"is 0x%02x on disk, recomputed it is 0x%02x", m.Got, m.Want)
}

// Write compares the extents with what the disk holds.
func (c *Comparer) Write(extents []Extent) error {
	for _, x := range extents {
		if err := c.compare(x.Shard, x.Data, x.Off); err != nil {
			return err
		}
	}
	return nil
}

func (c *Comparer) compare(shard int, p []byte, off int64) error {
	if len(c.buf) == 0 {
		c.buf = make([]byte, 1<<20)
	}
	for len(p) > 0 {
		got := c.buf[:min(len(p), len(c.buf))]
		if err := c.Disk.ReadAt(shard, got, off); err != nil {
			return &fault.Error{Where: c.Plan.Shards[shard].Name, What: fmt.Sprintf("read at byte %d", off), Err: err}
		}
		if want := p[:len(got)]; !bytes.Equal(got, want) {
			if err := c.differ(shard, off, got, want); err != nil {
				return err
			}
		}
		p, off = p[len(got):], off+int64(len(got))
	}
	return nil
}

// differ collects differences by tensor.
func (c *Comparer) differ(shard int, off int64, got, want []byte) error {
	for i := range got {
		if got[i] == want[i] {
			continue
		}
		t := c.tensorAt(shard, off+int64(i))
		k := slices.IndexFunc(c.Found, func(m Mismatch) bool { return m.Tensor == t.Name })
		if k < 0 {
			if len(c.Found) > 0 && len(c.Found) >= c.Most {
				return c.Found[0].Err()
			}
			at := off + int64(i) - t.Offset
			k = len(c.Found)
			c.Found = append(c.Found, Mismatch{
				Shard: c.Plan.Shards[shard].Name, Tensor: t.Name, Byte: at, Index: index(t, at), Got: got[i], Want: want[i],
			})
			if c.Most == 0 {
				return c.Found[0].Err()
			}
		}
		c.Found[k].Bytes++
	}
	return nil
}

// tensorAt returns the tensor that holds a byte of a shard; the plan's tensors are ordered by shard
// and offset.
func (c *Comparer) tensorAt(shard int, off int64) *plan.Tensor {
	i, found := slices.BinarySearchFunc(c.Plan.Tensors, off, func(t plan.Tensor, off int64) int {
		switch {
		case t.Shard < shard || t.Shard == shard && t.Offset+t.Size <= off:
			return -1
		case t.Shard > shard || t.Offset > off:
			return 1
		}
		return 0
	})
	if !found {
		panic("engine: internal error: a byte that no tensor has")
	}
	return &c.Plan.Tensors[i]
}

// index returns the index of the element that holds a byte of a tensor.
func index(t *plan.Tensor, at int64) []int64 {
	i := at * 8 / t.DType.Bits()
	list := make([]int64, len(t.Shape))
	for k := len(t.Shape) - 1; k >= 0; k-- {
		list[k] = i % t.Shape[k]
		i /= t.Shape[k]
	}
	return list
}
