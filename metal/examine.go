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
	r := int(h>>33) % ((j.Rows + tileRows - 1) / tileRows) * tileRows
	q := int(h>>13&0xFFFFF) % ((j.Cols + tileCols - 1) / tileCols) * tileCols
	rows, cols := min(tileRows, j.Rows-r), min(tileCols, j.Cols-q)
	n := rows * cols * int(p.To.Size())
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
	size := int(p.To.Size())
	lines, length := k.Rows, k.Cols
	if p.Transposed {
		lines, length = k.Cols, k.Rows
	}
	at := o.job.Dst + p.OutAt(o.job, o.r, o.c)*size
	for i := range lines {
		want := c.slot.scratch[k.Dst+i*length*size:][:length*size]
		got := c.slot.out[at+i*o.job.DstStride*size:][:length*size]
		if !bytes.Equal(want, got) {
			return fmt.Errorf("%s: %s: a block of %dx%d differs from the CPU's result", c.backend.g, p, k.Rows, k.Cols)
		}
	}
	return nil
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
	rectangles(j, p.Transposed, len(s.scratch)/int(p.To.Size()), func(r, c, rows, cols int) {
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
	if p.Op == kernel.Dequant {
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
