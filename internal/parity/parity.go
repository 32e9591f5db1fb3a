// Package parity compares a backend with another on what a machine's GPU could get wrong: every
// E4M3 code by every scale of 8 and 16 bits and by float32 scales of every kind, ragged shapes,
// scales of blocks, rows and matrices, every cast, copy and sum with 1, every quantized format, and
// experts stacked with gate beside up, which are placed a second time by other means. It is the
// suite that a user runs; package kerneltest, which computes every element by other means, is the
// one that tests run.
package parity

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/metalcast/metalcast/internal/kernel"
)

// Report is the outcome of comparing the Metal device with the CPU.
type Report struct {
	Device string `json:"device"`
	// Emulated: the device is the emulator that tests use where there is no Mac.
	Emulated bool `json:"emulated"`
	// Which code of the CPU's: "scalar" is plain Go, the others are vector code.
	CPU         string `json:"cpu"`
	Elements    int64  `json:"elements"`
	Differences int64  `json:"differences"`
	Rows        []Row  `json:"rows"`
}

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

	in              []byte // of the current window
	test, reference kernel.Slot
}

const (
	inSize  = 24 << 20
	outSize = 64 << 20
	canary  = 0xA5
)

// Run computes everything on both backends and returns all rows. Differences are not an error.
func (s *Suite) Run(ctx context.Context) (rows []Row, err error) {
	if s.test, err = s.Test.NewSlot(inSize, outSize); err != nil {
		return nil, err
	}
	if s.reference, err = s.Reference.NewSlot(inSize, outSize); err != nil {
		return nil, err
	}
	s.in = make([]byte, inSize)
	for _, c := range slices.Concat(s.stacks(), s.cases()) {
		row := Row{Kernel: c.name(), Input: c.input}
		for jobs := c.fill(s.in); len(jobs) > 0; jobs = c.fill(s.in) {
			if err := s.compare(ctx, c, jobs, &row); err != nil {
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
	row    string // its name, if not the kernel's
	input  string
	fill   func(in []byte) []kernel.Job // returns no jobs when there is nothing left
	// place, if not nil, computes what is expected of Out; otherwise that is what the reference makes
	// of the same jobs.
	place func(ctx context.Context, s *Suite, jobs []kernel.Job, out []byte, tallies []kernel.Tally) error
}

func (c *compute) name() string {
	if c.row != "" {
		return c.row
	}
	if c.params.Op == kernel.Quantize {
		return packedName(&c.params)
	}
	return c.params.String()
}

// extent returns how many bytes of In and Out the jobs reach, and a few more.
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

// compare runs one window on both and compares all of Out, including what no job covers.
func (s *Suite) compare(ctx context.Context, c *compute, jobs []kernel.Job, row *Row) error {
	p := &c.params
	for _, j := range jobs {
		row.Elements += int64(j.Rows) * int64(j.Cols)
	}
	in, out := extent(p, jobs)
	batch := []kernel.Batch{{Params: *p, Jobs: jobs}}
	tallies := [2][]kernel.Tally{make([]kernel.Tally, len(jobs)), make([]kernel.Tally, len(jobs))}
	for _, slot := range []kernel.Slot{s.test, s.reference} {
		copy(slot.In(), s.in[:in])
		copy(slot.Out(), canaries(out))
	}
	start := time.Now()
	if err := s.Test.Run(ctx, s.test, batch, tallies[0]); err != nil {
		return err
	}
	row.Seconds += time.Since(start).Seconds()
	want := s.reference.Out()[:out]
	var err error
	if c.place != nil {
		want = canaries(out)
		err = c.place(ctx, s, jobs, want, tallies[1])
	} else {
		err = s.Reference.Run(ctx, s.reference, batch, tallies[1])
	}
	if err != nil {
		return err
	}
	size := int(p.To.Size())
	if p.Op == kernel.Quantize {
		size = 1
	}
	row.differ(s.test.Out()[:out], want, size)
	for i := range tallies[0] {
		if tallies[0][i] != tallies[1][i] {
			row.Differences++
			row.First = fmt.Sprintf("job %d: counts %+v, want %+v", i, tallies[0][i], tallies[1][i])
		}
	}
	return nil
}

// canaries returns n bytes as Out has them before a window.
func canaries(n int) []byte { return bytes.Repeat([]byte{canary}, n) }

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

// reversed returns little-endian bytes in the order of a written number.
func reversed(b []byte) []byte {
	out := make([]byte, 0, 4)
	for i := len(b) - 1; i >= 0; i-- {
		out = append(out, b[i])
	}
	return out
}
