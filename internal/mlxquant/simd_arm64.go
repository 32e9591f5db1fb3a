//go:build !purego

package mlxquant

import (
	"math"

	"github.com/metalcast/metalcast/internal/dtype"
)

//go:noescape
func limits(w *float32, n int) (lo, hi float32)

//go:noescape
func greatest(w *float32, n int) (bits uint32)

//go:noescape
func away(codes *byte, w *float32, n int, b, half float32, most uint32, nibbles bool)

//go:noescape
func even(codes *byte, w *float32, n int, b, s float32, most uint32, nibbles bool)

//go:noescape
func fp8(codes *byte, w *float32, n int, inverse float32)

//go:noescape
func fp4(codes *byte, w *float32, n int, inverse float32, cells *byte)

//go:noescape
func widenBF16(dst *float32, src *byte, n int)

//go:noescape
func widenF16(dst *float32, src *byte, n int)

// fastRow quantizes with NEON, which every arm64 has.
func fastRow(f Format, p Profile) rowFunc {
	switch {
	case f.Mode == Affine && f.Bits > 1:
		return affineRow
	case f.Mode != Affine && p == Metal:
		return fpRow
	}
	return nil
}

func affineRow(q *Quantizer, codes, scales, biases []byte, w []float32) (bad int) {
	bad = -1
	size := int(q.from.Size())
	for i := range q.Groups(len(w)) {
		scale, bias, finite := q.affineGroup(codes[i*q.GroupBytes():(i+1)*q.GroupBytes()], w[i*q.GroupSize:(i+1)*q.GroupSize])
		if !finite {
			clear(codes[i*q.GroupBytes() : (i+1)*q.GroupBytes()])
			if bad < 0 {
				bad = i
			}
		}
		put(scales[i*size:], size, scale)
		put(biases[i*size:], size, bias)
	}
	return bad
}

func (q *Quantizer) affineGroup(codes []byte, w []float32) (scale, bias uint32, finite bool) {
	lo, hi := limits(&w[0], len(w))
	if lo-lo != 0 || hi-hi != 0 {
		return 0, 0, false
	}
	s, b, scale, bias, finite := q.affineScale(lo, hi)
	if !finite || s == 0 {
		clear(codes)
		return scale, bias, finite
	}
	var unpacked [mostGroup]byte
	to := &unpacked[0]
	if q.Bits == 4 || q.Bits == 8 {
		to = &codes[0]
	}
	if q.profile == Metal {
		away(to, &w[0], len(w), b, s/2, 1<<q.Bits-1, q.Bits == 4)
	} else {
		even(to, &w[0], len(w), b, s, 1<<q.Bits-1, q.Bits == 4)
	}
	if q.Bits != 4 && q.Bits != 8 {
		pack(codes, &unpacked, uint(q.Bits))
	}
	return scale, bias, true
}

func fpRow(q *Quantizer, codes, scales, _ []byte, w []float32) (bad int) {
	bad = -1
	for i := range q.Groups(len(w)) {
		group, to := w[i*q.GroupSize:(i+1)*q.GroupSize], codes[i*q.GroupBytes():(i+1)*q.GroupBytes()]
		bits := greatest(&group[0], len(group))
		if bits >= infinity {
			clear(to)
			scales[i] = 0
			if bad < 0 {
				bad = i
			}
			continue
		}
		amax, inverse := math.Float32frombits(bits), float32(0)
		var scale uint32
		switch q.Mode {
		case MXFP8:
			scale, inverse = metalMX(amax / 448)
			fp8(&to[0], &group[0], len(group), inverse)
		case MXFP4:
			scale, inverse = metalMX(amax / 6)
			fp4(&to[0], &group[0], len(group), inverse, &cellsMetal[0])
		default:
			scale, inverse = metalNV(amax / 6)
			fp4(&to[0], &group[0], len(group), inverse, &cellsMetal[0])
		}
		scales[i] = byte(scale)
	}
	return bad
}

// fastWiden is Widen for the start of the row, whose length it returns.
func fastWiden(dst []float32, src []byte, from dtype.DType) int {
	n := len(dst) &^ 7
	if n == 0 {
		return 0
	}
	_ = src[int(from.Size())*n-1]
	switch from {
	case dtype.BF16:
		widenBF16(&dst[0], &src[0], n)
	case dtype.F16:
		widenF16(&dst[0], &src[0], n)
	default:
		return 0
	}
	return n
}
