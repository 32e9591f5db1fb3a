//go:build (darwin && cgo) || fakemetal

package metal

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"

	"github.com/metalcast/metalcast/internal/dtype"
	"github.com/metalcast/metalcast/internal/kernel"
)

// scratchSize is the memory for the CPU's results, in bytes.
const scratchSize = 1 << 20

// view is a slot's In with another Out, for the CPU.
type view struct{ in, out []byte }

func (v view) In() []byte  { return v.in }
func (v view) Out() []byte { return v.out }

// examine compares one block of every job with the CPU's, and counts what the kernels met.
func (b *Backend) examine(ctx context.Context, s *slot, batches []kernel.Batch, tallies []kernel.Tally) error {
	if s.scratch == nil {
		s.scratch = make([]byte, scratchSize)
	}
	if b.opts.Unchecked {
		return b.count(ctx, s, batches, tallies)
	}
	c := checker{backend: b, ctx: ctx, slot: s}
	salt := b.windows.Add(1)
	for i := range batches {
		p := &batches[i].Params
		for k := range batches[i].Jobs {
			if err := c.add(p, &batches[i].Jobs[k], salt+uint64(k)); err != nil {
				return err
			}
		}
		if err := c.flush(); err != nil {
			return err
		}
	}
	return b.count(ctx, s, batches, tallies)
}

// checker computes blocks of several jobs in one Run of the CPU.
type checker struct {
	backend *Backend
	ctx     context.Context
	slot    *slot

	batch   kernel.Batch
	origins []origin
	used    int
	tallies []kernel.Tally
}

// origin is where a block that is being checked lies in its job.
type origin struct {
	job  *kernel.Job
	r, c int
}

// add chooses a block of a job.
func (c *checker) add(p *kernel.Params, j *kernel.Job, salt uint64) error {
	h := salt * 0x9E3779B97F4A7C15 // spreads neighbouring jobs and windows over all blocks
	down, across := checked(p)
	r := int(h>>33) % ((j.Rows + down - 1) / down) * down
	q := int(h>>13&0xFFFFF) % ((j.Cols + across - 1) / across) * across
	rows, cols := min(down, j.Rows-r), min(across, j.Cols-q)
	n := sizeOf(p, rows, cols)
	if c.used+n > len(c.slot.scratch) {
		if err := c.flush(); err != nil {
			return err
		}
	}
	c.batch.Params = *p
	c.batch.Jobs = append(c.batch.Jobs, part(p, j, r, q, rows, cols, c.used))
	c.origins = append(c.origins, origin{j, r, q})
	c.used += n
	return nil
}

// checked is the size of a block that is compared: a tile, or, where groups are packed, 16 of its rows or columns, whole groups long.
func checked(p *kernel.Params) (rows, cols int) {
	switch {
	case p.Op != kernel.Quantize:
		return tileRows, tileCols
	case p.Transposed:
		return tileRows, 16
	}
	return 16, tileCols
}

// sizeOf is how many bytes the results of a job of so many rows and columns take, where they are packed one after the other.
func sizeOf(p *kernel.Params, rows, cols int) int {
	j := kernel.Job{Rows: rows, Cols: cols}
	if p.Op == kernel.Quantize {
		return placePacked(p, &j, 0)
	}
	return rows * cols * int(p.To.Size())
}

// flush computes the chosen blocks and compares them.
func (c *checker) flush() error {
	if len(c.batch.Jobs) == 0 {
		return nil
	}
	for len(c.tallies) < len(c.batch.Jobs) {
		c.tallies = append(c.tallies, kernel.Tally{})
	}
	v := view{c.slot.in, c.slot.scratch}
	if err := c.backend.opts.CPU.Run(c.ctx, v, []kernel.Batch{c.batch}, c.tallies[:len(c.batch.Jobs)]); err != nil {
		return err
	}
	for i := range c.batch.Jobs {
		if err := c.compare(&c.batch.Jobs[i], c.origins[i]); err != nil {
			return err
		}
	}
	c.batch.Jobs, c.origins, c.used = c.batch.Jobs[:0], c.origins[:0], 0
	return nil
}

// compare looks at a block line by line: rows, or columns where the result is transposed.
func (c *checker) compare(k *kernel.Job, o origin) error {
	p := &c.batch.Params
	lines, length := k.Rows, k.Cols
	if p.Transposed {
		lines, length = k.Cols, k.Rows
	}
	same := true
	if p.Op == kernel.Quantize {
		_, whole, _, _, _ := p.Packed(o.job)
		f, size := &p.Format, int(p.Format.ScaleType(p.To).Size())
		at := packedAt(p, o.job, o.r, o.c)
		same = c.equal(k.Dst, at[0], lines, f.RowBytes(length), f.RowBytes(whole)) &&
			c.equal(k.DstScale, at[1], lines, f.Groups(length)*size, f.Groups(whole)*size) &&
			(f.BiasType(p.To) == dtype.Invalid || c.equal(k.DstBias, at[2], lines, f.Groups(length)*size, f.Groups(whole)*size))
	} else {
		size := int(p.To.Size())
		same = c.equal(k.Dst, o.job.Dst+p.OutAt(o.job, o.r, o.c)*size, lines, length*size, o.job.DstStride*size)
	}
	if !same {
		return fmt.Errorf("%s: %s: a block of %dx%d differs from the CPU's result", c.backend.g, p, k.Rows, k.Cols)
	}
	return nil
}

// equal compares lines of n bytes, which follow each other in the CPU's results and lie stride bytes apart in Out.
func (c *checker) equal(want, got, lines, n, stride int) bool {
	for i := range lines {
		if !bytes.Equal(c.slot.scratch[want+i*n:][:n], c.slot.out[got+i*stride:][:n]) {
			return false
		}
	}
	return true
}

// count has the CPU count in the jobs where a kernel met something.
func (b *Backend) count(ctx context.Context, s *slot, batches []kernel.Batch, tallies []kernel.Tally) error {
	clear(tallies)
	statuses, nans := s.statusOf()
	met := map[int32]bool{}
	for i, job := range s.jobs {
		if job >= 0 && statuses[i].sawSomething(nans[i]) {
			met[job] = true
		}
	}
	if len(met) == 0 {
		return nil
	}
	job := int32(0)
	for i := range batches {
		for k := range batches[i].Jobs {
			if met[job] {
				if err := b.recount(ctx, s, &batches[i].Params, &batches[i].Jobs[k], &tallies[job]); err != nil {
					return err
				}
			}
			job++
		}
	}
	return nil
}

// recount runs a job on the CPU, a rectangle at a time, for its tally. Scales are counted here, for a block may lie in several rectangles.
func (b *Backend) recount(ctx context.Context, s *slot, p *kernel.Params, j *kernel.Job, t *kernel.Tally) (err error) {
	v := view{s.in, s.scratch}
	cut := func(each func(r, c, rows, cols int)) {
		rectangles(j, p.Transposed, len(s.scratch)/int(p.To.Size()), each)
	}
	if p.Op == kernel.Quantize {
		cut = func(each func(r, c, rows, cols int)) { groupRectangles(p, j, len(s.scratch)/2, each) } // an element takes two bytes at most, its part of scales included
	}
	cut(func(r, c, rows, cols int) {
		if err != nil {
			return
		}
		one := make([]kernel.Tally, 1)
		err = b.opts.CPU.Run(ctx, v, []kernel.Batch{{Params: *p, Jobs: []kernel.Job{part(p, j, r, c, rows, cols, 0)}}}, one)
		for _, spot := range []*kernel.Spot{&one[0].NaN, &one[0].Overflow} {
			spot.Row += r
			spot.Col += c
		}
		one[0].Scale = kernel.Spot{}
		t.Add(one[0])
	})
	if p.Scaled() {
		countScales(s.in, p, j, &t.Scale)
	}
	return err
}

// countScales counts a job's scales that are NaN or infinite.
func countScales(in []byte, p *kernel.Params, j *kernel.Job, spot *kernel.Spot) {
	down, across := p.Blocks(j)
	size := int(p.ScaleType.Size())
	for r := range down {
		for c := range across {
			at := j.Scale + (r*j.ScaleStride+c)*size
			if !finiteScale(in[at:at+size], p.ScaleType) {
				spot.At(max(0, r*p.BlockRows-j.RowPhase), max(0, c*p.BlockCols-j.ColPhase), 1)
			}
		}
	}
}

// finiteScale looks at the exponent, which is in the last two bytes; E8M0 has no more than that, and NaN instead of infinity.
func finiteScale(b []byte, t dtype.DType) bool {
	if t == dtype.F8E8M0 {
		return b[0] != 0xFF
	}
	exponent := uint16(0x7F80)
	if t == dtype.F16 {
		exponent = 0x7C00
	}
	return binary.LittleEndian.Uint16(b[len(b)-2:])&exponent != exponent
}
