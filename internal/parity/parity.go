// Package parity compares a backend with another on what a machine's GPU could get wrong: every E4M3 code by every bfloat16 scale, float32 scales of every
// kind, ragged shapes, every cast. It is the suite that a user runs; package kerneltest, which computes every element by other
// means, is the one that tests run.
package parity

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/metalcast/metalcast/internal/dtype"
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

	test, reference kernel.Slot
}

const (
	inSize  = 24 << 20
	outSize = 64 << 20
	canary  = 0xA5
)

var floats = []dtype.DType{dtype.BF16, dtype.F16, dtype.F32}

// Run computes everything on both backends and gives all rows. An error is one of the machinery, not a difference.
func (s *Suite) Run(ctx context.Context) (rows []Row, err error) {
	if s.test, err = s.Test.NewSlot(inSize, outSize); err != nil {
		return nil, err
	}
	if s.reference, err = s.Reference.NewSlot(inSize, outSize); err != nil {
		return nil, err
	}
	for _, c := range s.cases() {
		row := Row{Kernel: c.params.String(), Input: c.input}
		for c.next() {
			if err := s.compare(ctx, c, &row); err != nil {
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

	in   []byte
	jobs []kernel.Job
}

func (c *compute) next() bool {
	if c.in == nil {
		c.in = make([]byte, inSize)
	}
	c.jobs = c.fill(c.in)
	return len(c.jobs) > 0
}

// compare runs one window on both and looks at all of Out, what no job covers included.
func (s *Suite) compare(ctx context.Context, c *compute, row *Row) error {
	out := 0
	for _, j := range c.jobs {
		out = max(out, j.Dst+(max(j.Rows, j.Cols)*j.DstStride+max(j.Rows, j.Cols))*int(c.params.To.Size()))
		row.Elements += int64(j.Rows) * int64(j.Cols)
	}
	out = min(out+64, outSize)
	batch := []kernel.Batch{{Params: c.params, Jobs: c.jobs}}
	tallies := [2][]kernel.Tally{make([]kernel.Tally, len(c.jobs)), make([]kernel.Tally, len(c.jobs))}
	for i, side := range []struct {
		be   kernel.Backend
		slot kernel.Slot
	}{{s.Test, s.test}, {s.Reference, s.reference}} {
		copy(side.slot.In(), c.in)
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
	row.differ(s.test.Out()[:out], s.reference.Out()[:out], int(c.params.To.Size()))
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
	for i := 0; i+size <= len(got); i += size {
		if !bytes.Equal(got[i:i+size], want[i:i+size]) {
			if r.Differences++; r.First == "" {
				r.First = fmt.Sprintf("element %d is %x, want %x", i/size, reversed(got[i:i+size]), reversed(want[i:i+size]))
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

func (s *Suite) cases() (list []*compute) {
	for _, to := range floats {
		for _, st := range []dtype.DType{dtype.BF16, dtype.F32} {
			p := kernel.Params{Op: kernel.Dequant, From: dtype.F8E4M3, To: to, ScaleType: st, BlockRows: 1, BlockCols: 256}
			input := "256 codes x 65,536 scales"
			scales := allBF16()
			if st == dtype.F32 {
				scales = edgeF32(s.Quick)
				input = fmt.Sprintf("256 codes x %d scales", len(scales))
			} else if s.Quick {
				scales = sample(scales, 64)
				input = fmt.Sprintf("256 codes x %d scales", len(scales))
			}
			list = append(list, &compute{params: p, input: input, fill: tables(p, scales)})
			p.BlockRows, p.BlockCols = 1, 16
			list = append(list, &compute{params: p, input: "thin blocks, edge scales", fill: tables(p, repeat(edgeF32(true)))})
			for _, t := range []bool{false, true} {
				p := kernel.Params{Op: kernel.Dequant, From: dtype.F8E4M3, To: to, ScaleType: st, BlockRows: 128, BlockCols: 128, Transposed: t}
				input := "ragged shapes, strides, odd offsets"
				if t {
					input = "ragged shapes, transposed"
				}
				list = append(list, &compute{params: p, input: input, fill: shapes(p, s.Quick)})
			}
		}
	}
	for _, from := range floats {
		for _, to := range floats {
			p := kernel.Params{Op: kernel.Cast, From: from, To: to}
			input := "65,536 patterns"
			if from == dtype.F32 {
				input = "edge and random patterns"
			}
			list = append(list, &compute{params: p, input: input, fill: casts(p, s.Quick)})
		}
	}
	return list
}

// tables multiplies all codes by each scale: a row of 256 codes for each.
func tables(p kernel.Params, scales []uint32) func([]byte) []kernel.Job {
	const most = 65536
	return func(in []byte) []kernel.Job {
		n := min(len(scales)*p.BlockCols/256, most)
		if n == 0 {
			return nil
		}
		for i := range 256 * n {
			in[i] = byte(i)
		}
		used := n * 256 / p.BlockCols
		put(in[256*n:], p.ScaleType, scales[:used])
		scales = scales[used:]
		return []kernel.Job{{Rows: n, Cols: 256, SrcStride: 256, DstStride: 256, Scale: 256 * n, ScaleStride: 256 / p.BlockCols}}
	}
}

func put(to []byte, t dtype.DType, f32 []uint32) {
	for i, w := range f32 {
		if t == dtype.F32 {
			binary.LittleEndian.PutUint32(to[4*i:], w)
		} else {
			binary.LittleEndian.PutUint16(to[2*i:], uint16(w>>16))
		}
	}
}

func allBF16() (s []uint32) {
	for w := range uint32(1 << 16) {
		s = append(s, w<<16)
	}
	return s
}

func sample(s []uint32, step int) (out []uint32) {
	for i := 0; i < len(s); i += step {
		out = append(out, s[i])
	}
	return out
}

// repeat makes the number of scales a multiple of 16, which a row of thin blocks takes.
func repeat(s []uint32) []uint32 {
	for i := 0; len(s)%16 != 0; i++ {
		s = append(s, s[i])
	}
	return s
}

// edgeF32 is float32 patterns at both ends of every exponent, ties, and random ones.
func edgeF32(quick bool) (s []uint32) {
	rng := rand.New(rand.NewPCG(11, 13))
	for e := range uint32(256) {
		for _, m := range []uint32{0, 1, 0x7FFFFF, 0x400000, 0x3FFFFF, 0x008000, 0x018000, 0x7F8000, rng.Uint32() & 0x7FFFFF} {
			s = append(s, e<<23|m, 1<<31|e<<23|m)
		}
	}
	if !quick {
		for range 60_000 {
			s = append(s, rng.Uint32())
		}
	}
	return s
}

// shapes is matrices around the block's size, primes and one of a real model, with strides, at odd offsets.
func shapes(p kernel.Params, quick bool) func([]byte) []kernel.Job {
	list := [][2]int{{1, 1}, {1, 128}, {127, 129}, {128, 128}, {129, 127}, {130, 257}, {3, 1021}, {509, 2}, {576, 7168}}
	if quick {
		list = list[:8]
	}
	rng := rand.New(rand.NewPCG(17, 19))
	return func(in []byte) []kernel.Job {
		if len(list) == 0 {
			return nil
		}
		rows, cols := list[0][0], list[0][1]
		list = list[1:]
		j := kernel.Job{Rows: rows, Cols: cols, Src: rng.IntN(9), SrcStride: cols + rng.IntN(5), Dst: 64, DstStride: cols + rng.IntN(7)}
		if p.Transposed {
			j.DstStride = rows + rng.IntN(7)
		}
		j.RowPhase, j.ColPhase = rng.IntN(p.BlockRows), rng.IntN(p.BlockCols)
		down, across := p.Blocks(&j)
		j.ScaleStride = across + rng.IntN(3)
		j.Scale = j.Src + rows*j.SrcStride + rng.IntN(9)
		for i := range in[:j.Scale] {
			in[i] = byte(rng.Uint32())
		}
		scales := make([]uint32, down*j.ScaleStride)
		for i := range scales {
			scales[i] = 0x3C000000 + rng.Uint32()&0x03FFFFFF
		}
		put(in[j.Scale:], p.ScaleType, scales)
		return []kernel.Job{j}
	}
}

// casts is every 16-bit pattern, or float32 patterns.
func casts(p kernel.Params, quick bool) func([]byte) []kernel.Job {
	done := false
	return func(in []byte) []kernel.Job {
		if done {
			return nil
		}
		done = true
		n := 1 << 16
		if p.From == dtype.F32 {
			s := edgeF32(quick)
			put(in[1:], p.From, s)
			n = len(s)
		} else {
			for i := range n {
				binary.LittleEndian.PutUint16(in[1+2*i:], uint16(i))
			}
		}
		return []kernel.Job{{Rows: 1, Cols: n, Src: 1, SrcStride: n, Dst: 64, DstStride: n}}
	}
}
