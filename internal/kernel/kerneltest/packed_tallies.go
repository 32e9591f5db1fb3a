package kerneltest

import (
	"testing"

	"github.com/metalcast/metalcast/internal/dtype"
	"github.com/metalcast/metalcast/internal/kernel"
	"github.com/metalcast/metalcast/internal/mlxquant"
	"github.com/metalcast/metalcast/internal/needtest"
	"github.com/stretchr/testify/require"
)

// testPackedTallies plants values that cannot be quantized in matrices large enough to be shared
// among workers. The expected tallies are written out here; Check also compares with the
// reference's.
func testPackedTallies(t *testing.T, be kernel.Backend) {
	spot := func(n int64, row, col int) kernel.Spot { return kernel.Spot{N: n, Row: row, Col: col} }
	const rows, cols = 192, 1664 // multiples of the groups below
	for n, f := range []mlxquant.Format{mlxquant.Affine.Default(), {Mode: mlxquant.Affine, Bits: 3, GroupSize: 32}, mlxquant.MXFP8.Default(), mlxquant.NVFP4.Default()} {
		for _, turned := range []bool{false, true} {
			for i, block := range [][2]int{{128, 128}, {1, cols + 9}, {1, 30}} {
				if i != n%3 && (sampled() || turned) || !needtest.Long() && (n%2 == 1 || turned == (n%4 == 0)) {
					continue
				}
				p := packing(kernel.Params{From: dtype.F8E4M3, ScaleType: dtype.F32, BlockRows: block[0], BlockCols: block[1], Transposed: turned}, f, profiles[n%2], dtype.F16)
				l := Layout{Rows: rows, Cols: cols, Codes: make([]byte, rows*cols), RowPhase: 5 % block[0], ColPhase: 7, Shift: 1, Scales: []uint32{0x3C000000}}
				w := NewWindow(1)
				j := *w.Add(p, l)
				require.Equal(t, kernel.Tally{}, run(t, be, w))
				plant := func(row, col int, code byte) { w.In[j.Src+row*j.SrcStride+col] = code }
				plant(191, 0, 0x7F)
				plant(150, 1650, 0xFF)
				want := kernel.Tally{NaN: spot(2, 150, 1650)}
				require.Equal(t, want, run(t, be, w))

				down, across := p.Blocks(&j)
				first := func(b, block, phase int) int { return max(0, b*block-phase) }
				w.setScale(p, &j, down-1, across-1, 0x7F800000)
				want.Scale = spot(1, first(down-1, block[0], l.RowPhase), first(across-1, block[1], l.ColPhase))
				require.Equal(t, want, run(t, be, w))
				w.setScale(p, &j, 0, 0, 0xFFC00000)
				want.Scale = spot(2, 0, 0)
				require.Equal(t, want, run(t, be, w))

				for d := range down { // all scales are 256 now
					for a := range across {
						w.setScale(p, &j, d, a, 0x43800000)
					}
				}
				plant(190, 1298, 0x78) // 65536: beyond float16
				plant(191, 2, 0xF8)
				plant(12, 1600, 0xFE)
				want = kernel.Tally{NaN: spot(2, 150, 1650), Overflow: spot(3, 12, 1600)}
				require.Equal(t, want, run(t, be, w))
				w.setScale(p, &j, 0, 0, 0x7F000000) // beyond bfloat16 already
				plant(0, 3, 0x50)
				want.Overflow = spot(4, 0, 3)
				require.Equal(t, want, run(t, be, w))
			}
		}
	}

	// Elements that are not finite, or no longer finite after the cast; a range beyond float16 and one
	// beyond float32.
	for _, turned := range []bool{false, true} {
		for _, c := range []struct {
			from, to dtype.DType
			f        mlxquant.Format
			want     kernel.Tally
		}{
			{dtype.F32, dtype.F16, mlxquant.Format{Mode: mlxquant.Affine, Bits: 1, GroupSize: 32}, kernel.Tally{NaN: spot(3, 70, 70), Overflow: spot(3, 33, 65)}},
			{dtype.F32, dtype.F16, mlxquant.MXFP4.Default(), kernel.Tally{NaN: spot(3, 70, 70), Overflow: spot(2, 130, 131)}},
			{dtype.F32, dtype.BF16, mlxquant.Affine.Default(), kernel.Tally{NaN: spot(3, 70, 70), Overflow: spot(1, 132, 132)}},
			{dtype.F32, dtype.F32, mlxquant.Affine.Default(), kernel.Tally{NaN: spot(3, 70, 70), Overflow: spot(1, 128, 192)}},
		} {
			p := packing(kernel.Params{From: c.from, Transposed: turned}, c.f, mlxquant.Metal, c.to)
			w := NewWindow(1)
			j := *w.Add(p, Layout{Rows: 320, Cols: 320, Codes: make([]byte, 4*320*320)})
			plant := func(row, col int, bits uint32) { store(w.In[j.Src+4*(row*j.SrcStride+col):], bits, 4) }
			plant(70, 70, 0x7FC00000)
			plant(71, 71, 0x7F800000)
			plant(72, 72, 0xFF800001)
			switch c.to {
			case dtype.F16:
				plant(130, 131, 0x477FF000) // 65520 becomes infinite
				plant(131, 130, 0xC77FF000)
				// a group from 60000 to -60000, down a column or along a row: its scale, the range, is beyond
				// float16
				if turned {
					plant(33, 65, 0x476A6000)
					plant(34, 65, 0xC76A6000)
				} else {
					plant(33, 66, 0x476A6000)
					plant(33, 67, 0xC76A6000)
				}
			case dtype.BF16:
				plant(132, 132, 0x7F7FFFFF)
			default:
				plant(130, 200, 0x7F7FFFFF)
				if turned {
					plant(131, 200, 0xFF7FFFFF)
				} else {
					plant(130, 201, 0xFF7FFFFF)
				}
			}
			want := c.want
			switch {
			case c.f.Bits == 1 && turned:
				want.Overflow = spot(3, 32, 65)
			case c.f.Bits == 1:
				want.Overflow = spot(3, 33, 64)
			case c.to == dtype.F32 && turned:
				want.Overflow = spot(1, 128, 200)
			case c.to == dtype.F32:
				want.Overflow = spot(1, 130, 192)
			}
			require.Equal(t, want, run(t, be, w), p)
		}
	}
}
