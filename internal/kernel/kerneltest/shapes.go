package kerneltest

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/metalcast/metalcast/internal/dtype"
	"github.com/metalcast/metalcast/internal/kernel"
)

var scaleTypes = []dtype.DType{dtype.BF16, dtype.F32, dtype.F16, dtype.F8E8M0}

// testShapes runs matrices of sizes around those of blocks and words, in blocks of every dialect.
func testShapes(t *testing.T, be kernel.Backend) {
	rig := NewRig(be)
	sizes := []int{1, 2, 7, 31, 127, 128, 129, 130, 257}
	n := 0
	for _, rows := range sizes {
		for _, cols := range sizes {
			for _, block := range [][2]int{{128, 128}, {32, 32}, {1, cols}, {rows, cols}, {rows, 1}, {1, 1}, {1, 32}, {3, 5}, {64, 16}, {1 << 20, 1 << 20}} {
				for _, to := range floats {
					n++
					if sampled() && n%5 != 0 {
						continue
					}
					p := kernel.Params{Op: kernel.Dequant, From: dtype.F8E4M3, To: to, ScaleType: scaleTypes[n/3%4], BlockRows: block[0], BlockCols: block[1]}
					p.Transposed = n%4 == 3
					w := NewWindow(uint64(n))
					w.Add(p, Layout{Rows: rows, Cols: cols, Shift: n % 8})
					rig.Check(t, w)
				}
			}
		}
	}
	if sampled() {
		return
	}
	// DeepSeek's kv_a_proj_with_mqa
	for i, block := range [][2]int{{128, 128}, {1, 7168}, {576, 7168}, {32, 32}, {1, 128}} {
		p := kernel.Params{Op: kernel.Dequant, From: dtype.F8E4M3, To: floats[i%3], ScaleType: scaleTypes[i%4], BlockRows: block[0], BlockCols: block[1]}
		p.Transposed = i == 3
		w := NewWindow(uint64(i))
		w.Add(p, Layout{Rows: 576, Cols: 7168})
		rig.Check(t, w)
	}
}

// testPhases runs rectangles that begin anywhere in a block, with gaps everywhere, several jobs and
// Params per window.
func testPhases(t *testing.T, be kernel.Backend) {
	rig := NewRig(be)
	windows := uint64(150)
	if sampled() {
		windows = 30
	}
	for i, wide := range []struct{ blockRows, blockCols, cols int }{{128, 128, 20_000}, {2, 40_000, 100_000}, {5, 3, 9_001}} {
		p := kernel.Params{Op: kernel.Dequant, From: dtype.F8E4M3, To: floats[i], ScaleType: dtype.BF16, BlockRows: wide.blockRows, BlockCols: wide.blockCols}
		w := NewWindow(uint64(i))
		w.Add(p, Layout{Rows: 3, Cols: wide.cols, RowPhase: 1, ColPhase: wide.blockCols - 1, SrcGap: 1})
		w.Add(p, Layout{Rows: 3, Cols: wide.cols, ColPhase: wide.blockCols / 2, DstGap: 1})
		rig.Check(t, w)
	}
	for seed := range windows {
		rng := rand.New(rand.NewPCG(seed, 11))
		w := NewWindow(seed)
		for range 1 + rng.IntN(6) {
			p, l := RandomJob(rng)
			w.Add(p, l)
		}
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) { rig.Check(t, w) })
	}
}

// testStrides runs shapes that vector code handles, with everything a multiple of its width, and
// with different strides of source and destination.
func testStrides(t *testing.T, be kernel.Backend) {
	rig := NewRig(be)
	for i, to := range floats {
		for _, turned := range []bool{false, true} {
			for _, gaps := range [][2]int{{0, 16}, {16, 0}, {48, 16}} {
				p := kernel.Params{Op: kernel.Dequant, From: dtype.F8E4M3, To: to, ScaleType: scaleTypes[i%4], BlockRows: 128, BlockCols: 128, Transposed: turned}
				w := NewWindow(uint64(i))
				for range 2 {
					w.Add(p, Layout{Rows: 192, Cols: 256, SrcGap: gaps[0], DstGap: gaps[1]})
					for len(w.In)%64 != 0 {
						w.pad(1)
					}
				}
				rig.Check(t, w)
			}
		}
	}
}

// RandomJob draws a job of any operation, type and geometry, with up to some ten thousand elements.
func RandomJob(rng *rand.Rand) (kernel.Params, Layout) {
	p := kernel.Params{From: floats[rng.IntN(3)], To: floats[rng.IntN(3)], Transposed: rng.IntN(4) == 0}
	l := Layout{
		Rows: 1 + rng.IntN(1<<rng.IntN(9)), Cols: 1 + rng.IntN(1<<rng.IntN(9)), Shift: rng.IntN(9),
		SrcGap: rng.IntN(4), DstGap: rng.IntN(4), ScaleGap: rng.IntN(3), NewBatch: rng.IntN(3) == 0,
	}
	switch rng.IntN(14) {
	case 12, 13:
		return randomPacked(rng)
	case 0:
		p.Op = kernel.Cast
		return p, l
	case 1:
		p.Op, p.To = kernel.Copy, p.From
		return p, l
	case 2:
		p.Op, p.Transposed = kernel.AddOne, false
		return p, l
	}
	side := func() int { return []int{1, 2, 3, 5, 16, 32, 64, 100, 128, 1000, math.MaxInt32}[rng.IntN(11)] }
	p.Op, p.From, p.ScaleType = kernel.Dequant, dtype.F8E4M3, scaleTypes[rng.IntN(4)]
	p.BlockRows, p.BlockCols = side(), side()
	l.RowPhase, l.ColPhase = rng.IntN(p.BlockRows), rng.IntN(p.BlockCols)
	for range rng.IntN(40) { // if there are none, scales are ordinary
		l.Scales = append(l.Scales, rng.Uint32()>>(32-p.ScaleType.Bits()))
	}
	return p, l
}
