package parity

import (
	"fmt"

	"github.com/metalcast/metalcast/internal/dtype"
	"github.com/metalcast/metalcast/internal/kernel"
)

var (
	floats     = []dtype.DType{dtype.BF16, dtype.F16, dtype.F32}
	scaleTypes = []dtype.DType{dtype.BF16, dtype.F32, dtype.F16, dtype.F8E8M0}
)

func (s *Suite) cases() (list []*compute) {
	add := func(p kernel.Params, input string, fill func(in []byte) []kernel.Job) {
		list = append(list, &compute{params: p, input: input, fill: fill})
	}
	for _, to := range floats {
		for _, st := range scaleTypes {
			s.dequants(kernel.Params{Op: kernel.Dequant, From: dtype.F8E4M3, To: to, ScaleType: st}, add)
		}
	}
	for _, from := range floats {
		input := "65,536 patterns"
		if from == dtype.F32 {
			input = "edge and random patterns"
		}
		for _, to := range floats {
			add(kernel.Params{Op: kernel.Cast, From: from, To: to}, input, plain(from, false, s.Quick))
			add(kernel.Params{Op: kernel.Cast, From: from, To: to, Transposed: true}, input, plain(from, true, s.Quick))
		}
		for _, to := range floats {
			add(kernel.Params{Op: kernel.AddOne, From: from, To: to}, input, plain(from, false, s.Quick))
		}
		p := kernel.Params{Op: kernel.Copy, From: from, To: from}
		add(p, input, plain(from, false, s.Quick))
		p.Transposed = true
		add(p, input, plain(from, true, s.Quick))
		add(p, "two halves of each line", halves(p))
	}
	s.quantizes(add)
	return list
}

// dequants returns the cases of an output type and a scale type.
func (s *Suite) dequants(p kernel.Params, add func(kernel.Params, string, func([]byte) []kernel.Job)) {
	scales := allScales(p.ScaleType, s.Quick)
	input := fmt.Sprintf("256 codes x %d scales", len(scales))
	if len(scales) == 1<<16 {
		input = "256 codes x 65,536 scales"
	}
	p.BlockRows, p.BlockCols = 1, 256
	add(p, input, tables(p, scales))
	p.BlockRows, p.BlockCols = 1, 16
	add(p, "thin blocks, edge scales", tables(p, repeat(edgeScales(p.ScaleType))))
	for _, turned := range []bool{false, true} {
		p.Transposed = turned
		for _, d := range []struct {
			rows, cols int
			what       string
		}{{128, 128, "ragged shapes, odd offsets"}, {1, 7168, "scales of rows, odd offsets"}, {576, 7168, "one scale, odd offsets"}} {
			p.BlockRows, p.BlockCols = d.rows, d.cols
			add(p, d.what, shapes(p, s.Quick))
		}
	}
	p.BlockRows, p.BlockCols = 128, 128
	add(p, "two halves of each line", halves(p))
}
