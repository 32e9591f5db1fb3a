// Package parity compares a backend with another on what a machine's GPU could get wrong: every E4M3 code by every scale of 8 and 16 bits and by float32
// scales of every kind, ragged shapes, scales of blocks, rows and matrices, every cast, copy and sum with 1, every quantized format. It is the suite that a user runs; package kerneltest, which computes every element by other
// means, is the one that tests run.
package parity

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"github.com/metalcast/metalcast/internal/kernel"
)

// Row is the outcome of one kernel on one kind of input.
type Row struct {
	Kernel      string  `json:"kernel"`
	Input       string  `json:"input"`
	Elements    int64   `json:"elements"`
	Differences int64   `json:"differences"`
	First       string  `json:"first,omitempty"` // the first difference
	Seconds     float64 `json:"seconds"`         // of the backend under test
}

// Suite compares Test with Reference.
type Suite struct {
	Test, Reference kernel.Backend
	Quick           bool // samples instead of everything
	Each            func(Row)

	in              []byte // of the window at hand
	test, reference kernel.Slot
}

const (
	inSize  = 24 << 20
	outSize = 64 << 20
	canary  = 0xA5
)

// Run computes everything on both backends and gives all rows. An error is one of the machinery, not a difference.
func (s *Suite) Run(ctx context.Context) (rows []Row, err error) {
	if s.test, err = s.Test.NewSlot(inSize, outSize); err != nil {
		return nil, err
	}
	if s.reference, err = s.Reference.NewSlot(inSize, outSize); err != nil {
		return nil, err
	}
	s.in = make([]byte, inSize)
	for _, c := range s.cases() {
		row := Row{Kernel: c.name(), Input: c.input}
		for jobs := c.fill(s.in); len(jobs) > 0; jobs = c.fill(s.in) {
			if err := s.compare(ctx, &c.params, jobs, &row); err != nil {
				return rows, fmt.Errorf("%s, %s: %w", row.Kernel, row.Input, err)
			}
		}
		rows = append(rows, row)
		if s.Each != nil {
			s.Each(row)
		}
	}
	return rows, nil
}

// compute is a case: windows of jobs of one kernel.
type compute struct {
	params kernel.Params
	input  string
	fill   func(in []byte) []kernel.Job // gives no jobs when there is nothing left
}

func (c *compute) name() string {
	if c.params.Op == kernel.Quantize {
		return packedName(&c.params)
	}
	return c.params.String()
}

// extent is how many bytes of In and Out the jobs reach into, and a few more.
func extent(p *kernel.Params, jobs []kernel.Job) (in, out int) {
	for _, j := range jobs {
		in = max(in, j.Src+((j.Rows-1)*j.SrcStride+j.Cols)*int(p.From.Size()))
		if p.Scaled() {
			down, across := p.Blocks(&j)
			in = max(in, j.Scale+((down-1)*j.ScaleStride+across)*int(p.ScaleType.Size()))
		}
		if p.Op == kernel.Quantize {
			out = max(out, packedEnd(p, &j))
			continue
		}
		out = max(out, j.Dst+(p.OutAt(&j, j.Rows-1, j.Cols-1)+1)*int(p.To.Size()))
	}
	return min(in+64, inSize), min(out+64, outSize)
}

// compare runs one window on both and looks at all of Out, what no job covers included.
func (s *Suite) compare(ctx context.Context, p *kernel.Params, jobs []kernel.Job, row *Row) error {
	for _, j := range jobs {
		row.Elements += int64(j.Rows) * int64(j.Cols)
	}
	in, out := extent(p, jobs)
	batch := []kernel.Batch{{Params: *p, Jobs: jobs}}
	tallies := [2][]kernel.Tally{make([]kernel.Tally, len(jobs)), make([]kernel.Tally, len(jobs))}
	for i, side := range []struct {
		be   kernel.Backend
		slot kernel.Slot
	}{{s.Test, s.test}, {s.Reference, s.reference}} {
		copy(side.slot.In(), s.in[:in])
		for k := range side.slot.Out()[:out] {
			side.slot.Out()[k] = canary
		}
		start := time.Now()
		if err := side.be.Run(ctx, side.slot, batch, tallies[i]); err != nil {
			return err
		}
		if i == 0 {
			row.Seconds += time.Since(start).Seconds()
		}
	}
	size := int(p.To.Size())
	if p.Op == kernel.Quantize {
		size = 1
	}
	row.differ(s.test.Out()[:out], s.reference.Out()[:out], size)
	for i := range tallies[0] {
		if tallies[0][i] != tallies[1][i] {
			row.Differences++
			row.First = fmt.Sprintf("job %d: counts %+v, want %+v", i, tallies[0][i], tallies[1][i])
		}
	}
	return nil
}

func (r *Row) differ(got, want []byte, size int) {
	if bytes.Equal(got, want) {
		return
	}
	unit := "element"
	if size == 1 {
		unit = "byte"
	}
	for i := 0; i+size <= len(got); i += size {
		if !bytes.Equal(got[i:i+size], want[i:i+size]) {
			if r.Differences++; r.First == "" {
				r.First = fmt.Sprintf("%s %d is %x, want %x", unit, i/size, reversed(got[i:i+size]), reversed(want[i:i+size]))
			}
		}
	}
}

// reversed gives little-endian bytes as one reads a number.
func reversed(b []byte) []byte {
	out := make([]byte, 0, 4)
	for i := len(b) - 1; i >= 0; i-- {
		out = append(out, b[i])
	}
	return out
}
