package kerneltest

import (
	"math"
	"testing"

	"github.com/metalcast/metalcast/internal/dtype"
	"github.com/metalcast/metalcast/internal/kernel"
)

// testDialects runs scales of rows, of columns and of whole matrices, for matrices and for parts of
// them: a block then begins before the job, ends after it, or is as large as a block can be.
func testDialects(t *testing.T, be kernel.Backend) {
	const most = math.MaxInt32
	rig := NewRig(be)
	n := 0
	for _, size := range [][2]int{{1, 2048}, {3, 20_000}, {70, 333}, {257, 129}, {300, 6}, {2049, 1}} {
		rows, cols := size[0], size[1]
		for _, block := range [][2]int{{1, cols}, {1, 3 * cols}, {1, most}, {rows, 1}, {most, 1}, {rows, cols}, {2 * rows, 3 * cols}, {most, most}, {2, most}} {
			for _, turned := range []bool{false, true} {
				p := kernel.Params{
					Op: kernel.Dequant, From: dtype.F8E4M3, To: floats[n%3], ScaleType: scaleTypes[n/2%4], BlockRows: block[0], BlockCols: block[1], Transposed: turned,
				}
				n++
				w := NewWindow(uint64(n))
				for _, phase := range [][2]int{{0, 0}, {block[0] / 2, block[1] / 2}, {max(0, block[0]-rows), max(0, block[1]-cols)}, {block[0] - 1, block[1] - 1}} {
					w.Add(p, Layout{Rows: rows, Cols: cols, RowPhase: phase[0], ColPhase: phase[1], Shift: n % 5, SrcGap: n % 2, DstGap: n % 3, ScaleGap: 1})
				}
				rig.Check(t, w)
			}
		}
	}
}
