package cpufallback

import (
	"github.com/metalcast/metalcast/internal/dtype"
	"github.com/metalcast/metalcast/internal/kernel"
)

// multiply computes a tile element by element, for blocks too small for tables.
func (r *run) multiply(w *work, t tile, line []byte) (found kernel.Tally) {
	sheet := r.sheet(w, t, line)
	for row := t.r0; row < t.r1; row++ {
		band := (w.RowPhase + row) / w.BlockRows
		for col := t.c0; col < t.c1; {
			block := (w.ColPhase + col) / w.BlockCols
			end := min(t.c1, (block+1)*w.BlockCols-w.ColPhase)
			scale := loadScale(r.in, w, band, block)
			if !finite(scale) && w.owns(t, row, band, block) {
				found.Scale.At(row, col, 1)
			}
			at := w.Src + row*w.SrcStride
			src := r.in[at+col : at+end]
			inf, nan := multiplyBlock(sheet.results(row, col, len(src)), src, scale, w.To)
			if nan {
				countNaN(&found.NaN, src, row, col)
			}
			if inf && finite(scale) {
				countInfinite(&found.Overflow, src, scale, w.To, row, col)
			}
			col = end
		}
		sheet.end(row)
	}
	return found
}

// multiplyBlock multiplies one row of a block. It tells whether results may be infinite and whether a NaN code was among the codes.
func multiplyBlock(dst, src []byte, scale float32, to dtype.DType) (inf, nan bool) {
	var top uint32 // greatest magnitude; that of NaN is beyond infinity
	var seen uint64
	switch to {
	case dtype.BF16:
		for i, c := range src {
			w := uint32(roundBF16(product(c, scale)))
			top, seen = max(top, w&0x7FFF), seen|seenNaN(uint64(c))
			little.PutUint16(dst[2*i:], uint16(w))
		}
	case dtype.F16:
		for i, c := range src {
			w := uint32(roundF16(product(c, scale)))
			top, seen = max(top, w&0x7FFF), seen|seenNaN(uint64(c))
			little.PutUint16(dst[2*i:], uint16(w))
		}
	default:
		for i, c := range src {
			w := product(c, scale)
			top, seen = max(top, w&0x7FFFFFFF), seen|seenNaN(uint64(c))
			little.PutUint32(dst[4*i:], w)
		}
	}
	return top >= roundTo(to, infinity), seen&0x80 != 0
}

// countInfinite adds the codes whose result is infinite.
func countInfinite(s *kernel.Spot, src []byte, scale float32, to dtype.DType, row, col int) {
	inf := roundTo(to, infinity)
	sign := uint32(1) << (8*to.Size() - 1)
	for i, c := range src {
		if roundTo(to, product(c, scale))&^sign == inf {
			s.At(row, col+i, 1)
		}
	}
}
