package cpufallback

import "github.com/metalcast/metalcast/internal/kernel"

// scratch is what a worker needs, allocated once.
type scratch struct {
	tables16 tables[uint16]
	tables32 tables[uint32]
	packer   packer
	scales   [tileCols]float32  // of a row of thin blocks
	line     [4 * tileCols]byte // results on their way to columns, sums on theirs to a cast
}

// tables are those of the blocks of one band that a tile touches.
type tables[T result] struct {
	table [mostTables]table[T]
	least [mostTables]byte // least magnitude of a code that overflows, 127 for none
}

// dequant computes a tile through tables: for each band of rows under one row of scales it fills the tables of the band's blocks,
// then sweeps the rows.
func dequant[T result](r *run, w *work, t tile, line []byte, s *tables[T], fill fillFunc[T], row rowFunc[T]) (found kernel.Tally) {
	sheet := r.sheet(w, t, line)
	first, head := w.ColPhase+t.c0, w.BlockCols // head: columns of the tile in its first block
	first, head = first/w.BlockCols, head-first%w.BlockCols
	stream := w.packer == nil && !w.Transposed
	n := (w.ColPhase+t.c1-1)/w.BlockCols - first + 1
	for r0 := t.r0; r0 < t.r1; {
		band := (w.RowPhase + r0) / w.BlockRows
		r1 := min(t.r1, (band+1)*w.BlockRows-w.RowPhase)
		overflows := false
		for i := range n {
			scale := loadScale(r.in, w, band, first+i)
			if !finite(scale) && w.owns(t, r0, band, first+i) {
				found.Scale.At(r0, max(t.c0, (first+i)*w.BlockCols-w.ColPhase), 1)
			}
			s.least[i] = fill(&s.table[i], scale, w.To)
			overflows = overflows || s.least[i] < 127
		}
		for ; r0 < r1; r0++ {
			at := w.Src + r0*w.SrcStride + t.c0
			src := r.in[at : at+t.c1-t.c0]
			if row(sheet.results(r0, t.c0, len(src)), src, s.table[:n], head, w.BlockCols, stream) {
				countNaN(&found.NaN, src, r0, t.c0)
			}
			sheet.end(r0)
			if overflows {
				countOverflow(&found.Overflow, src, r0, t.c0, s.least[:n], head, w.BlockCols)
			}
		}
	}
	if stream {
		r.kernels.fence()
	}
	return found
}

// owns tells whether the tile, at row r0, holds the first element of a block: of all the tiles that share a scale, one counts it.
func (w *work) owns(t tile, r0, band, block int) bool {
	return r0 == max(0, band*w.BlockRows-w.RowPhase) && t.c0 <= max(0, block*w.BlockCols-w.ColPhase)
}

// countNaN adds the NaN codes of a row.
func countNaN(s *kernel.Spot, src []byte, row, col int) {
	for i, c := range src {
		if c&127 == 127 {
			s.At(row, col+i, 1)
		}
	}
}

// countOverflow adds the codes of a row that are finite and at least their block's least overflowing magnitude.
func countOverflow(s *kernel.Spot, src []byte, row, col int, least []byte, head, width int) {
	end := head
	for i, c := range src {
		if i == end {
			least, end = least[1:], end+width
		}
		if m := c & 127; m >= least[0] && m < 127 {
			s.At(row, col+i, 1)
		}
	}
}
