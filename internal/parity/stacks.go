package parity

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"

	"github.com/metalcast/metalcast/internal/dtype"
	"github.com/metalcast/metalcast/internal/kernel"
	"github.com/metalcast/metalcast/internal/mlxquant"
)

// stack is the experts of a layer on their way into one tensor: [E, rows, cols], or transposed [E,
// cols, rows]. Gate and up also go into one, [E, 2*rows, cols] with gate's rows before up's, or [E,
// cols, 2*rows] with gate's columns before up's. What the backend under test wrote is compared with
// a placement that does not use jobs and their strides: the reference computes every matrix alone,
// and its elements are placed one by one.
type stack struct {
	params     kernel.Params
	halves     int // 2 with gate and up
	rows, cols int // of one matrix
	planes     []plane
	order      []int // experts as the window has them
}

// plane is one of the tensors that a stack becomes, in elements of size bytes: codes, scales and
// biases if it is quantized (an element is then a whole row) or one tensor.
type plane struct{ alone, out, cols, size int }

// More than ten experts, because shards have them in the order of their names: 0, 1, 10, 11, 2.
// Their matrices end within a scale block.
const (
	stackedExperts = 12
	stackedRows    = 140
	stackedCols    = 192
)

// stacks returns the rows about experts.
func (s *Suite) stacks() (list []*compute) {
	dequant := func(blockRows, blockCols int, scale, to dtype.DType) kernel.Params {
		return kernel.Params{Op: kernel.Dequant, From: dtype.F8E4M3, To: to, ScaleType: scale, BlockRows: blockRows, BlockCols: blockCols}
	}
	for _, halves := range []int{1, 2} {
		for _, turned := range []bool{false, true} {
			name := "expert stacking"
			if halves == 2 {
				name += ", gate beside up"
			}
			if turned {
				name += ", transposed"
			}
			for _, p := range []kernel.Params{
				dequant(128, 128, dtype.BF16, dtype.BF16), dequant(128, 128, dtype.F32, dtype.F16), dequant(1, stackedCols, dtype.F32, dtype.BF16),
				dequant(stackedRows, stackedCols, dtype.F32, dtype.F32), dequant(4, 16, dtype.F16, dtype.BF16),
				{Op: kernel.Copy, From: dtype.BF16, To: dtype.BF16}, {Op: kernel.Cast, From: dtype.F32, To: dtype.BF16},
			} {
				input := p.String()
				p.Transposed = turned
				list = append(list, newStack(p, halves).compute(name, input))
			}
			for _, f := range []mlxquant.Format{mlxquant.Affine.Default(), {Mode: mlxquant.Affine, Bits: 3, GroupSize: 64}, mlxquant.MXFP4.Default()} {
				if turned {
					continue // packed rows stay rows
				}
				p := dequant(128, 128, dtype.BF16, dtype.BF16)
				p.Op, p.Format = kernel.Quantize, f
				list = append(list, newStack(p, halves).compute(name, fmt.Sprintf("quantize %s as %s", f, p.Profile)))
			}
		}
	}
	return list
}

func newStack(p kernel.Params, halves int) *stack {
	x := &stack{params: p, halves: halves, rows: stackedRows, cols: stackedCols}
	names := make([]string, stackedExperts)
	for e := range names {
		names[e] = strconv.Itoa(e)
	}
	slices.Sort(names)
	for _, n := range names {
		e, _ := strconv.Atoi(n)
		x.order = append(x.order, e)
	}
	if p.Op != kernel.Quantize {
		x.planes = []plane{{out: 64, cols: x.cols, size: int(p.To.Size())}}
		return x
	}
	p.Transposed = false
	_, _, codes, scales, biases := p.Packed(&kernel.Job{Rows: x.rows, Cols: x.cols})
	alone, out := 0, 64
	for _, n := range []int64{codes, scales, biases} {
		x.planes = append(x.planes, plane{alone: alone, out: out, cols: 1, size: int(n) / x.rows})
		alone += int(n)
		out += (int(n)*halves*stackedExperts + 15) &^ 7
	}
	return x
}

func (x *stack) compute(name, input string) *compute {
	done := false
	rng := rand.New(rand.NewPCG(59, 61))
	return &compute{params: x.params, row: name, input: input, place: x.place, fill: func(in []byte) (jobs []kernel.Job) {
		if done {
			return nil
		}
		done = true
		at := 0
		for _, e := range x.order {
			for half := range x.halves {
				j := x.job(e, half)
				j.Src, j.SrcStride = at, x.cols
				at = operands(rng, in, &x.params, &j, 3)
				if x.params.Op == kernel.Quantize {
					for i := j.Src; i < j.Src+x.rows*x.cols; i++ {
						in[i] = sound(in[i])
					}
				}
				jobs = append(jobs, j)
			}
		}
		return jobs
	}}
}

// job is a matrix's, placed as plans place it: by its first byte and a stride.
func (x *stack) job(e, half int) kernel.Job {
	j := kernel.Job{Rows: x.rows, Cols: x.cols}
	size := x.planes[0].size
	switch {
	case x.params.Op == kernel.Quantize:
		n := (e*x.halves + half) * x.rows
		j.Dst, j.DstScale, j.DstBias = x.planes[0].out+n*size, x.planes[1].out+n*x.planes[1].size, x.planes[2].out+n*x.planes[2].size
	case x.params.Transposed:
		j.Dst, j.DstStride = x.planes[0].out+(e*x.cols*x.halves+half)*x.rows*size, x.halves*x.rows
	default:
		j.Dst, j.DstStride = x.planes[0].out+(e*x.halves+half)*x.rows*x.cols*size, x.cols
	}
	return j
}

// place computes every matrix alone on the reference, and places its elements into the expected
// Out.
func (x *stack) place(ctx context.Context, s *Suite, jobs []kernel.Job, out []byte, tallies []kernel.Tally) error {
	p := x.params
	p.Transposed = false
	for i := range jobs {
		j := jobs[i]
		j.Dst, j.DstStride = 0, x.cols
		if p.Op == kernel.Quantize {
			j.DstStride, j.DstScale, j.DstBias = 0, x.planes[1].alone, x.planes[2].alone
		}
		if err := s.Reference.Run(ctx, s.reference, []kernel.Batch{{Params: p, Jobs: []kernel.Job{j}}}, tallies[i:i+1]); err != nil {
			return err
		}
		x.put(out, s.reference.Out(), x.order[i/x.halves], i%x.halves)
	}
	return nil
}

// put places one matrix in the stacks, element by element.
func (x *stack) put(out, matrix []byte, expert, half int) {
	for _, p := range x.planes {
		lines, length := x.halves*x.rows, p.cols
		if x.params.Transposed {
			lines, length = length, lines
		}
		for r := range x.rows {
			for c := range p.cols {
				line, k := half*x.rows+r, c
				if x.params.Transposed {
					line, k = k, line
				}
				to := p.out + ((expert*lines+line)*length+k)*p.size
				copy(out[to:to+p.size], matrix[p.alone+(r*p.cols+c)*p.size:])
			}
		}
	}
}
