package cpufallback

import (
	"math"

	"github.com/metalcast/metalcast/internal/dtype"
	"github.com/metalcast/metalcast/internal/kernel"
)

// cast converts a tile row by row. Where it adds one before, line holds the sums; then the result is not turned.
func (r *run) cast(w *work, t tile, line []byte) (found kernel.Tally) {
	sheet := r.sheet(w, t, line)
	for row := t.r0; row < t.r1; row++ {
		src := r.operands(w, row, t)
		if w.Op == kernel.AddOne {
			src = addOne(line[:len(src)], src, w.From)
		}
		if r.kernels.cast(sheet.results(row, t.c0, t.c1-t.c0), src, w.From, w.To) {
			countCast(&found.Overflow, src, w.From, w.To, row, t.c0)
		}
		sheet.end(row)
	}
	return found
}

// copy moves a tile row by row.
func (r *run) copy(w *work, t tile, line []byte) {
	sheet := r.sheet(w, t, line)
	for row := t.r0; row < t.r1; row++ {
		copy(sheet.results(row, t.c0, t.c1-t.c0), r.operands(w, row, t))
		sheet.end(row)
	}
}

// operands is the elements of a row that a tile has.
func (r *run) operands(w *work, row int, t tile) []byte {
	size := int(w.From.Size())
	at := w.Src + (row*w.SrcStride+t.c0)*size
	return r.in[at : at+(t.c1-t.c0)*size]
}

// addOne gives the elements plus 1, rounded to their own type. None of the types has a finite element that becomes infinite.
func addOne(sums, src []byte, t dtype.DType) []byte {
	size := int(t.Size())
	for i := range len(src) / size {
		sum := math.Float32frombits(widen(src, i, t)) + 1
		v := roundTo(t, canonical(math.Float32bits(sum)))
		if size == 2 {
			little.PutUint16(sums[2*i:], uint16(v))
		} else {
			little.PutUint32(sums[4*i:], v)
		}
	}
	return sums
}

// castRow converts elements. It tells whether an infinity was made of a finite value.
func castRow(dst, src []byte, from, to dtype.DType) (overflow bool) {
	n := len(src) / int(from.Size())
	switch {
	case to == dtype.F32:
		for i := range n {
			little.PutUint32(dst[4*i:], widen(src, i, from))
		}
	case to == dtype.BF16:
		for i := range n {
			w := widen(src, i, from)
			v := roundBF16(w)
			overflow = overflow || v&0x7FFF == 0x7F80 && w&0x7FFFFFFF != infinity
			little.PutUint16(dst[2*i:], v)
		}
	default:
		for i := range n {
			w := widen(src, i, from)
			v := roundF16(w)
			overflow = overflow || v&0x7FFF == 0x7C00 && w&0x7FFFFFFF != infinity
			little.PutUint16(dst[2*i:], v)
		}
	}
	return overflow
}

// widen is the i-th element in float32, NaN canonical.
func widen(src []byte, i int, from dtype.DType) uint32 {
	switch from {
	case dtype.BF16:
		return widenBF16(little.Uint16(src[2*i:]))
	case dtype.F16:
		return widenF16(little.Uint16(src[2*i:]))
	}
	return canonical(little.Uint32(src[4*i:]))
}

// countCast adds the finite elements that become infinite.
func countCast(s *kernel.Spot, src []byte, from, to dtype.DType, row, col int) {
	inf := roundTo(to, infinity)
	sign := uint32(1) << (8*to.Size() - 1)
	for i := range len(src) / int(from.Size()) {
		w := widen(src, i, from)
		if w&0x7FFFFFFF != infinity && roundTo(to, w)&^sign == inf {
			s.At(row, col+i, 1)
		}
	}
}
