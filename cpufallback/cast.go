package cpufallback

import (
	"github.com/metalcast/metalcast/internal/dtype"
	"github.com/metalcast/metalcast/internal/kernel"
)

// cast converts a tile row by row.
func (r *run) cast(w *work, t tile) (found kernel.Tally) {
	from, to := int(w.From.Size()), int(w.To.Size())
	for row := t.r0; row < t.r1; row++ {
		at := w.Src + (row*w.SrcStride+t.c0)*from
		src := r.in[at : at+(t.c1-t.c0)*from]
		at = w.Dst + (row*w.DstStride+t.c0)*to
		dst := r.out[at : at+(t.c1-t.c0)*to]
		if castRow(dst, src, w.From, w.To) {
			countCast(&found.Overflow, src, w.From, w.To, row, t.c0)
		}
	}
	return found
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
