package kerneltest

import (
	"testing"

	"github.com/metalcast/metalcast/internal/dtype"
	"github.com/metalcast/metalcast/internal/kernel"
	"github.com/metalcast/metalcast/internal/needtest"
	"github.com/stretchr/testify/require"
)

// testTallies plants values that a sound checkpoint does not contain in matrices large enough to be
// shared among workers. The expected tallies are written out here; Check also compares with the
// reference's.
func testTallies(t *testing.T, be kernel.Backend) {
	spot := func(n int64, row, col int) kernel.Spot { return kernel.Spot{N: n, Row: row, Col: col} }
	const rows, cols = 300, 1700
	infinite := map[dtype.DType]uint32{dtype.BF16: 0x7F80, dtype.F32: 0x7F800000, dtype.F16: 0x7C00, dtype.F8E8M0: 0xFF} // or NaN
	negativeNaN := map[dtype.DType]uint32{dtype.BF16: 0xFF81, dtype.F32: 0xFF800001, dtype.F16: 0xFC01, dtype.F8E8M0: 0xFF}
	large := map[dtype.DType]uint32{dtype.BF16: 0x4380, dtype.F32: 0x43800000, dtype.F16: 0x5C00, dtype.F8E8M0: 135}  // 256: float16 overflows from code 0x78 (256) on
	finite := map[dtype.DType]uint32{dtype.BF16: 0x7F7F, dtype.F32: 0x7F7FFFFF, dtype.F16: 0x7BFF, dtype.F8E8M0: 254} // the greatest

	for s, st := range scaleTypes {
		for b, block := range [][2]int{{128, 128}, {1, 30}, {rows + 7, cols + 9}, {1, cols + 9}} {
			if !needtest.Long() && (s != b || s%2 == 1) {
				continue
			}
			p := kernel.Params{Op: kernel.Dequant, From: dtype.F8E4M3, To: dtype.F16, ScaleType: st, BlockRows: block[0], BlockCols: block[1]}
			p.Transposed = block[0] == 128
			l := Layout{Rows: rows, Cols: cols, Codes: make([]byte, rows*cols), RowPhase: 5 % block[0], ColPhase: 7, Shift: 1}
			w := NewWindow(1)
			j := *w.Add(p, l)
			require.Equal(t, kernel.Tally{}, run(t, be, w))
			w.setScale(p, &j, 0, 0, finite[st])
			require.Equal(t, kernel.Tally{}, run(t, be, w))

			plant := func(row, col int, code byte) { w.In[j.Src+row*j.SrcStride+col] = code }
			plant(299, 0, 0x7F)
			plant(250, 1699, 0xFF)
			require.Equal(t, kernel.Tally{NaN: spot(2, 250, 1699)}, run(t, be, w))
			plant(250, 13, 0x7F)
			require.Equal(t, kernel.Tally{NaN: spot(3, 250, 13)}, run(t, be, w))

			down, across := p.Blocks(&j)
			first := func(b, block, phase int) int { return max(0, b*block-phase) }
			w.setScale(p, &j, down-1, across-1, infinite[st])
			want := kernel.Tally{NaN: spot(3, 250, 13)}
			want.Scale = spot(1, first(down-1, block[0], l.RowPhase), first(across-1, block[1], l.ColPhase))
			require.Equal(t, want, run(t, be, w))
			w.setScale(p, &j, 0, 0, negativeNaN[st])
			want.Scale = spot(2, 0, 0)
			if down*across == 1 {
				want.Scale.N = 1
			}
			require.Equal(t, want, run(t, be, w))

			for d := range down { // all scales are 256 now
				for a := range across {
					w.setScale(p, &j, d, a, large[st])
				}
			}
			plant(298, 1298, 0x78)
			plant(299, 2, 0xF8)
			plant(12, 1600, 0xFE)
			plant(11, 1600, 0x77) // 240*256 is finite
			want = kernel.Tally{NaN: spot(3, 250, 13), Overflow: spot(3, 12, 1600)}
			require.Equal(t, want, run(t, be, w))
		}
	}

	p := kernel.Params{Op: kernel.Dequant, From: dtype.F8E4M3, To: dtype.F32, ScaleType: dtype.F32, BlockRows: 1 << 20, BlockCols: 1 << 20}
	w := NewWindow(1) // a scale for more elements than a worker takes at once counts once
	w.Add(p, Layout{Rows: 5, Cols: 300_000, Codes: make([]byte, 5*300_000), Scales: []uint32{0x7FC00000}})
	require.Equal(t, kernel.Tally{Scale: spot(1, 0, 0)}, run(t, be, w))

	// 65520, -65520, just below, inf, NaN, max
	patterns := []uint32{0x477FF000, 0xC77FF000, 0x477FEFFF, 0x7F800000, 0x7FC00000, 0x7F7FFFFF}
	for _, c := range []struct {
		op       kernel.Op
		turned   bool
		to       dtype.DType
		n        int64
		row, col int
	}{
		{kernel.Cast, false, dtype.F16, 3, 195, 5}, {kernel.Cast, true, dtype.F16, 3, 195, 5}, {kernel.Cast, false, dtype.BF16, 1, 195, 5},
		// -65520 no longer overflows, the value just below 65520 does
		{kernel.AddOne, false, dtype.F16, 3, 195, 5},
		{kernel.AddOne, false, dtype.BF16, 1, 195, 5}, {kernel.AddOne, false, dtype.F32, 0, 0, 0},
		{kernel.Copy, false, dtype.F32, 0, 0, 0}, {kernel.Copy, true, dtype.F32, 0, 0, 0},
	} {
		w = NewWindow(1)
		j := *w.Add(kernel.Params{Op: c.op, From: dtype.F32, To: c.to, Transposed: c.turned}, Layout{Rows: rows, Cols: cols, Codes: make([]byte, 4*rows*cols)})
		for i, bits := range patterns {
			store(w.In[j.Src+4*((200-i)*j.SrcStride+i):], bits, 4)
		}
		require.Equal(t, kernel.Tally{Overflow: spot(c.n, c.row, c.col)}, run(t, be, w))
	}
}

// run checks a window with one job and returns its tally.
func run(t *testing.T, be kernel.Backend, w *Window) kernel.Tally {
	t.Helper()
	rig := NewRig(be)
	rig.Check(t, w)
	var tally [1]kernel.Tally
	require.NoError(t, be.Run(t.Context(), rig.slot, w.Batches, tally[:]))
	return tally[0]
}
