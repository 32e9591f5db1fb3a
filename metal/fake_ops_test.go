//go:build fakemetal

package metal_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/metalcast/metalcast/emulator/probe"
	"github.com/metalcast/metalcast/internal/dtype"
	"github.com/metalcast/metalcast/internal/kernel"
	"github.com/metalcast/metalcast/internal/mlxquant"
)

// operations is a kernel of each kind that does not come up when the backend opens.
var operations = []kernel.Params{
	{Op: kernel.Dequant, From: dtype.F8E4M3, To: dtype.F16, ScaleType: dtype.F16, BlockRows: 128, BlockCols: 128},
	{Op: kernel.Dequant, From: dtype.F8E4M3, To: dtype.BF16, ScaleType: dtype.F8E8M0, BlockRows: 128, BlockCols: 128, Transposed: true},
	{Op: kernel.Dequant, From: dtype.F8E4M3, To: dtype.BF16, ScaleType: dtype.BF16, BlockRows: 1, BlockCols: 300},
	{Op: kernel.Dequant, From: dtype.F8E4M3, To: dtype.BF16, ScaleType: dtype.BF16, BlockRows: 1, BlockCols: 300, Transposed: true},
	{Op: kernel.Cast, From: dtype.F32, To: dtype.BF16},
	{Op: kernel.Cast, From: dtype.BF16, To: dtype.F16, Transposed: true},
	{Op: kernel.Copy, From: dtype.BF16, To: dtype.BF16, Transposed: true},
	{Op: kernel.Copy, From: dtype.F32, To: dtype.F32},
	{Op: kernel.AddOne, From: dtype.BF16, To: dtype.BF16},
	{Op: kernel.AddOne, From: dtype.F32, To: dtype.F16},
	{Op: kernel.Quantize, From: dtype.F8E4M3, To: dtype.BF16, ScaleType: dtype.BF16, BlockRows: 128, BlockCols: 128, Format: mlxquant.Affine.Default()},
	{Op: kernel.Quantize, From: dtype.F8E4M3, To: dtype.F16, ScaleType: dtype.F8E8M0, BlockRows: 1, BlockCols: 300, Format: mlxquant.MXFP8.Default(), Transposed: true},
	{Op: kernel.Quantize, From: dtype.F32, To: dtype.F32, Format: mlxquant.Format{Mode: mlxquant.Affine, Bits: 3, GroupSize: 32}, Profile: mlxquant.CPU},
	{Op: kernel.Quantize, From: dtype.BF16, To: dtype.BF16, Format: mlxquant.NVFP4.Default(), Transposed: true},
}

// operation is one job of 20x30 elements of a kernel, or of 16x64 where they are packed. Neither codes nor scales are NaN.
func operation(p kernel.Params) (batch []kernel.Batch, in []byte, out int) {
	j := kernel.Job{Rows: 20, Cols: 30, SrcStride: 30, DstStride: 30}
	if p.Op == kernel.Quantize {
		j = kernel.Job{Rows: 16, Cols: 64, SrcStride: 64, DstScale: 1024}
		j.DstBias = 2048
		if p.Transposed {
			j.Rows, j.Cols, j.SrcStride = 64, 16, 16
		}
	}
	for i := range j.Rows * j.Cols * int(p.From.Size()) {
		in = append(in, byte(i*7)&0x3F)
	}
	if p.Transposed && p.Op != kernel.Quantize {
		j.DstStride = j.Rows
	}
	if p.Scaled() {
		down, across := p.Blocks(&j)
		j.Scale, j.ScaleStride = len(in), across
		for range down * across * int(p.ScaleType.Size()) {
			in = append(in, 0x3C)
		}
	}
	return []kernel.Batch{{Params: p, Jobs: []kernel.Job{j}}}, in, 4096
}

// Every operation is tried before its first window, and one block of every window is compared: a wrong bit in either does not pass.
func TestEveryOperationIsTriedAndCompared(t *testing.T) {
	for _, p := range operations {
		t.Run(p.String(), func(t *testing.T) {
			batch, in, out := operation(p)
			r := newRig(t, true)
			s := r.slot(len(in), out)
			restore := probe.Inject(probe.Faults{Corrupt: probe.Always()})
			err := r.run(s, batch, in, out)
			restore()
			require.ErrorContains(t, err, "self-test of "+p.String())

			r = newRig(t, true)
			s = r.slot(len(in), out)
			require.NoError(t, r.run(s, batch, in, out))
			defer probe.Inject(probe.Faults{Corrupt: probe.Always()})()
			clear(s.Out())
			err = r.b.Run(context.Background(), s, batch, make([]kernel.Tally, 1))
			require.Error(t, err)
			assert.Regexp(t, "a block of (20x30|16x64|64x16) differs from the CPU's result|threadgroups did not run", err.Error())
		})
	}
}
