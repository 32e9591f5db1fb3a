package kernel_test

import (
	"math"
	"testing"

	"github.com/metalcast/metalcast/internal/dtype"
	"github.com/metalcast/metalcast/internal/kernel"
	"github.com/stretchr/testify/require"
)

func TestCheck(t *testing.T) {
	dequant := kernel.Params{Op: kernel.Dequant, From: dtype.F8E4M3, To: dtype.BF16, ScaleType: dtype.F32, BlockRows: 4, BlockCols: 8}
	good := kernel.Job{Rows: 5, Cols: 10, Src: 3, SrcStride: 12, Dst: 2, DstStride: 11, Scale: 61, ScaleStride: 2}
	in, out := 61+4*4, 2+2*(4*11+10) // the least that holds it
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
		"scale type":                 func(p *kernel.Params, j *kernel.Job) { p.ScaleType = dtype.F16 },
		"from":                       func(p *kernel.Params, j *kernel.Job) { p.From = dtype.F8E5M2 },
		"to":                         func(p *kernel.Params, j *kernel.Job) { p.To = dtype.I32 },
		"operation":                  func(p *kernel.Params, j *kernel.Job) { p.Op = 0 },
		"transposed result overlaps": func(p *kernel.Params, j *kernel.Job) { p.Transposed, j.DstStride = true, 4 },
		"transposed result too long": func(p *kernel.Params, j *kernel.Job) { p.Transposed, j.DstStride = true, 7 },
		"a transposed cast":          func(p *kernel.Params, j *kernel.Job) { p.Op, p.From, p.Transposed = kernel.Cast, dtype.F16, true },
		"cast with blocks":           func(p *kernel.Params, j *kernel.Job) { p.Op, p.From = kernel.Cast, dtype.F16 },
	} {
		p, j := dequant, good
		change(&p, &j)
		require.Error(t, check(p, j), name)
	}
}
