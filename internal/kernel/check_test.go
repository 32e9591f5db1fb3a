package kernel_test

import (
	"math"
	"testing"

	"github.com/metalcast/metalcast/internal/dtype"
	"github.com/metalcast/metalcast/internal/kernel"
	"github.com/metalcast/metalcast/internal/mlxquant"
	"github.com/stretchr/testify/require"
)

func TestCheck(t *testing.T) {
	dequant := kernel.Params{Op: kernel.Dequant, From: dtype.F8E4M3, To: dtype.BF16, ScaleType: dtype.F32, BlockRows: 4, BlockCols: 8}
	good := kernel.Job{Rows: 5, Cols: 10, Src: 3, SrcStride: 12, Dst: 2, DstStride: 11, Scale: 61, ScaleStride: 2}
	in, out := 61+4*4, 2+2*(4*11+10) // the smallest that holds it
	check := func(p kernel.Params, j kernel.Job) error {
		return kernel.Check(in, out, []kernel.Batch{{Params: p, Jobs: []kernel.Job{j}}}, 1)
	}
	require.NoError(t, check(dequant, good))
	require.Error(t, kernel.Check(in, out, []kernel.Batch{{Params: dequant, Jobs: []kernel.Job{good}}}, 2))
	in--
	require.ErrorContains(t, check(dequant, good), "scales of 2x2")
	in++
	out--
	require.ErrorContains(t, check(dequant, good), "destination of 5x10")
	out++

	turned := good // 10 columns of 5 rows fit where 5 rows of 10 columns do
	turned.DstStride = 5
	p := dequant
	p.Transposed = true
	require.NoError(t, check(p, turned))

	for name, change := range map[string]func(p *kernel.Params, j *kernel.Job){
		"no rows":                    func(p *kernel.Params, j *kernel.Job) { j.Rows = 0 },
		"negative columns":           func(p *kernel.Params, j *kernel.Job) { j.Cols = -1 },
		"negative source":            func(p *kernel.Params, j *kernel.Job) { j.Src = -1 },
		"source outside":             func(p *kernel.Params, j *kernel.Job) { j.Src = in + 1 },
		"source too long":            func(p *kernel.Params, j *kernel.Job) { j.SrcStride = math.MaxInt32 },
		"source overlaps":            func(p *kernel.Params, j *kernel.Job) { j.SrcStride = 9 },
		"result overlaps":            func(p *kernel.Params, j *kernel.Job) { j.DstStride = 9 },
		"result not aligned":         func(p *kernel.Params, j *kernel.Job) { j.Dst = 1 },
		"huge offset":                func(p *kernel.Params, j *kernel.Job) { j.Scale = math.MaxInt },
		"scale stride":               func(p *kernel.Params, j *kernel.Job) { j.ScaleStride = 1 },
		"row phase":                  func(p *kernel.Params, j *kernel.Job) { j.RowPhase = 4 },
		"column phase":               func(p *kernel.Params, j *kernel.Job) { j.ColPhase = 7 },
		"block":                      func(p *kernel.Params, j *kernel.Job) { p.BlockRows = 0 },
		"scale type":                 func(p *kernel.Params, j *kernel.Job) { p.ScaleType = dtype.F8E5M2 },
		"from":                       func(p *kernel.Params, j *kernel.Job) { p.From = dtype.F8E5M2 },
		"to":                         func(p *kernel.Params, j *kernel.Job) { p.To = dtype.I32 },
		"operation":                  func(p *kernel.Params, j *kernel.Job) { p.Op = 0 },
		"transposed result overlaps": func(p *kernel.Params, j *kernel.Job) { p.Transposed, j.DstStride = true, 4 },
		"transposed result too long": func(p *kernel.Params, j *kernel.Job) { p.Transposed, j.DstStride = true, 7 },
		"cast with blocks": func(p *kernel.Params, j *kernel.Job) {
			p.Op, p.From, p.ScaleType = kernel.Cast, dtype.F16, dtype.Invalid
		},
		"cast with scales": func(p *kernel.Params, j *kernel.Job) {
			*p = kernel.Params{Op: kernel.Cast, From: dtype.F16, To: dtype.BF16, ScaleType: dtype.F32}
		},
	} {
		p, j := dequant, good
		change(&p, &j)
		require.Error(t, check(p, j), name)
	}
}

// TestCheckQuantize has a job whose codes, scales and biases follow one another in the smallest
// slot that holds them.
func TestCheckQuantize(t *testing.T) {
	quantize := kernel.Params{Op: kernel.Quantize, From: dtype.F8E4M3, To: dtype.BF16, ScaleType: dtype.F32, BlockRows: 4, BlockCols: 8, Format: mlxquant.Affine.Default()}
	good := kernel.Job{Rows: 5, Cols: 128, Src: 3, SrcStride: 130, Scale: 700, ScaleStride: 16, DstScale: 5 * 64, DstBias: 5*64 + 20}
	in, out := 700+4*2*16, 5*64+40
	check := func(p kernel.Params, j kernel.Job) error {
		return kernel.Check(in, out, []kernel.Batch{{Params: p, Jobs: []kernel.Job{j}}}, 1)
	}
	require.NoError(t, check(quantize, good))
	turned := good // 5 rows are not a whole group in each of 128 columns
	p := quantize
	p.Transposed = true
	require.ErrorContains(t, check(p, turned), "not a multiple of the group size")
	turned = kernel.Job{Rows: 64, Cols: 10, SrcStride: 10, Scale: 640, ScaleStride: 2, DstScale: 5 * 64, DstBias: 5*64 + 20}
	require.NoError(t, check(p, turned))

	for name, change := range map[string]func(p *kernel.Params, j *kernel.Job){
		"part of a group":       func(p *kernel.Params, j *kernel.Job) { j.Cols = 127 },
		"codes not aligned":     func(p *kernel.Params, j *kernel.Job) { j.Dst = 2 },
		"scales not aligned":    func(p *kernel.Params, j *kernel.Job) { j.DstScale = 1 },
		"biases outside":        func(p *kernel.Params, j *kernel.Job) { j.DstBias += 2 },
		"scales outside":        func(p *kernel.Params, j *kernel.Job) { j.DstScale = out },
		"codes outside":         func(p *kernel.Params, j *kernel.Job) { j.Dst = 44 },
		"negative biases":       func(p *kernel.Params, j *kernel.Job) { j.DstBias = -2 },
		"wider scales":          func(p *kernel.Params, j *kernel.Job) { p.To = dtype.F32 },
		"source outside":        func(p *kernel.Params, j *kernel.Job) { j.Src = in },
		"block scales outside":  func(p *kernel.Params, j *kernel.Job) { j.Scale += 1 },
		"row phase":             func(p *kernel.Params, j *kernel.Job) { j.RowPhase = 4 },
		"format":                func(p *kernel.Params, j *kernel.Job) { p.Format.Bits = 7 },
		"no format":             func(p *kernel.Params, j *kernel.Job) { p.Format = mlxquant.Format{} },
		"profile":               func(p *kernel.Params, j *kernel.Job) { p.Profile = 2 },
		"scales without codes":  func(p *kernel.Params, j *kernel.Job) { p.From = dtype.BF16 },
		"codes without a scale": func(p *kernel.Params, j *kernel.Job) { p.ScaleType = dtype.Invalid },
	} {
		p, j := quantize, good
		change(&p, &j)
		require.Error(t, check(p, j), name)
	}
}

// TestParams goes through the kernels that exist, and some that do not. The job fits all of them.
func TestParams(t *testing.T) {
	check := func(p kernel.Params) error {
		j := kernel.Job{Rows: 2, Cols: 2, SrcStride: 2, DstStride: 2, ScaleStride: 2}
		return kernel.Check(64, 64, []kernel.Batch{{Params: p, Jobs: []kernel.Job{j}}}, 1)
	}
	floats := []dtype.DType{dtype.F16, dtype.BF16, dtype.F32}
	for _, p := range []struct {
		kernel.Params
		name string // "" if there is no such kernel
	}{
		{kernel.Params{Op: kernel.Cast, From: dtype.F32, To: dtype.F16}, "cast F32 -> F16"},
		{kernel.Params{Op: kernel.Cast, From: dtype.F32, To: dtype.F16, Transposed: true}, "cast F32 -> F16, transposed"},
		{kernel.Params{Op: kernel.Copy, From: dtype.BF16, To: dtype.BF16}, "copy BF16"},
		{kernel.Params{Op: kernel.Copy, From: dtype.F32, To: dtype.F32, Transposed: true}, "copy F32, transposed"},
		{kernel.Params{Op: kernel.Copy, From: dtype.BF16, To: dtype.F16}, ""},
		{kernel.Params{Op: kernel.Copy, From: dtype.I16, To: dtype.I16}, ""},
		{kernel.Params{Op: kernel.AddOne, From: dtype.BF16, To: dtype.F32}, "add one BF16 -> F32"},
		{kernel.Params{Op: kernel.AddOne, From: dtype.BF16, To: dtype.F32, Transposed: true}, ""},
		{kernel.Params{Op: kernel.AddOne, From: dtype.F8E4M3, To: dtype.F32}, ""},
		{kernel.Params{Op: 99, From: dtype.BF16, To: dtype.F32}, ""},
	} {
		err := check(p.Params)
		if p.name == "" {
			require.Error(t, err, "%+v", p.Params)
			continue
		}
		require.NoError(t, err)
		require.Equal(t, p.name, p.String())
	}
	for _, st := range append(floats, dtype.F8E8M0) {
		for _, to := range floats {
			for _, block := range []int{1, math.MaxInt32} {
				require.NoError(t, check(kernel.Params{Op: kernel.Dequant, From: dtype.F8E4M3, To: to, ScaleType: st, BlockRows: block, BlockCols: block}))
			}
		}
	}
}
