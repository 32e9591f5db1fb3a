package kerneltest

import (
	"testing"

	"github.com/metalcast/metalcast/internal/dtype"
	"github.com/metalcast/metalcast/internal/kernel"
)

// testWindow stacks experts and places gate and up beside and below each other, as a family's plan
// does, for every operation that expands, casts or moves experts.
func testWindow(t *testing.T, be kernel.Backend) {
	for i, to := range floats {
		for _, p := range []kernel.Params{
			{Op: kernel.Dequant, From: dtype.F8E4M3, To: to, ScaleType: scaleTypes[i], BlockRows: 128, BlockCols: 128},
			{Op: kernel.Dequant, From: dtype.F8E4M3, To: to, ScaleType: scaleTypes[i+1], BlockRows: 1, BlockCols: 200},
			{Op: kernel.Cast, From: floats[(i+1)%3], To: to},
			{Op: kernel.Copy, From: to, To: to},
		} {
			t.Run(p.String(), func(t *testing.T) { halves(t, be, p) })
		}
	}
}

func halves(t *testing.T, be kernel.Backend, p kernel.Params) {
	const experts, inter, hidden, gap = 3, 130, 200, 2
	size := int(p.To.Size())
	below, beside, turned, across := NewWindow(1), NewWindow(2), NewWindow(3), NewWindow(4)
	q := p
	q.Transposed = true
	for e := range experts {
		for half := range 2 {
			row := 2*e + half
			// [experts, 2*inter, hidden], with gaps between rows
			below.Add(p, Layout{Rows: inter, Cols: hidden, Shift: 1, Dst: size * row * inter * (hidden + gap), DstStride: hidden + gap})
			// [experts, inter, 2*hidden]
			beside.Add(p, Layout{Rows: inter, Cols: hidden, Shift: 3, Dst: size * (e*inter*2*hidden + half*hidden), DstStride: 2 * hidden})
			// [experts, hidden, 2*inter]: two jobs make the halves of a line
			turned.Add(q, Layout{Rows: inter, Cols: hidden, Shift: 2, Dst: size * (e*hidden*2*inter + half*inter), DstStride: 2 * inter})
			// The same in rectangles: rows of a tiled source, with every line of the destination made by
			// four jobs, and two columns that none of them covers.
			for _, r := range [][2]int{{0, 64}, {64, inter}} {
				for _, c := range [][2]int{{0, 128}, {128, hidden}} {
					l := Layout{Rows: r[1] - r[0], Cols: c[1] - c[0], SrcGap: hidden - c[1] + c[0], Shift: row}
					l.DstStride = 2*inter + gap
					l.Dst = size * ((e*hidden+c[0])*l.DstStride + half*inter + r[0])
					if p.Op == kernel.Dequant {
						l.RowPhase, l.ColPhase = r[0]%p.BlockRows, c[0]%p.BlockCols
					}
					across.Add(q, l)
				}
			}
		}
	}
	rig := NewRig(be)
	for _, w := range []*Window{below, beside, turned, across} {
		rig.Check(t, w)
	}
}
