//go:build !purego

package cpufallback

import (
	"math"

	"github.com/metalcast/metalcast/internal/dtype"
)

// rowsAVX2 is for machines without AVX-512: results in bfloat16 are multiplied, eight at a time, as AVX2 has no lookup that is as fast. Its tables of
// 16-bit results are a scale, marked as one, where multiply can be used, else as they are.
var rowsAVX2 = rows{fillAVX2, fill[uint32], lookupAVX2, row32, multiplyRowAVX2, castRow, storeFence}

//go:noescape
func multiplyAVX2(dst, src *byte, scale float32, n int, stream bool) (nan bool)

// noTable, as a table's last element, marks a scale, which lies in the first two. The last element of a table is NaN.
const noTable = 1

// mild tells whether no product of a code and a scale is infinite or NaN, nor the scale times 2^8.
func mild(scale float32) bool { return math.Float32bits(scale)&^(1<<31) < 0x76800000 } // 2^110

func fillAVX2(t *table[uint16], scale float32, to dtype.DType) (least byte) {
	if to != dtype.BF16 || !mild(scale) {
		return fill(t, scale, to)
	}
	b := math.Float32bits(scale)
	t[0], t[1], t[255] = uint16(b), uint16(b>>16), noTable
	return 127
}

func lookupAVX2(dst, src []byte, t []table[uint16], head, width int, stream bool) (nan bool) {
	for i := 0; len(src) > 0; i++ {
		n := min(head, len(src))
		if t[i][255] == noTable {
			scale := math.Float32frombits(uint32(t[i][0]) | uint32(t[i][1])<<16)
			_, c := multiplyMild(dst[:2*n], src[:n], scale, stream)
			nan = nan || c
		} else {
			nan = row16(dst[:2*n], src[:n], t[i:i+1], n, n, false) || nan
		}
		src, dst, head = src[n:], dst[2*n:], width
	}
	return nan
}

func multiplyMild(dst, src []byte, scale float32, stream bool) (inf, nan bool) {
	n := len(src) &^ 15
	if n > 0 && multiplyAVX2(&dst[0], &src[0], scale, n, stream) {
		n = 0
	}
	if n < len(src) {
		return multiplyBlock(dst[2*n:], src[n:], scale, dtype.BF16)
	}
	return false, false
}

func multiplyRowAVX2(dst, src []byte, scales []float32, head, width int, to dtype.DType) (inf, nan bool) {
	size := int(to.Size())
	for _, scale := range scales {
		n := min(head, len(src))
		var i, c bool
		if to == dtype.BF16 && mild(scale) {
			i, c = multiplyMild(dst[:2*n], src[:n], scale, false)
		} else {
			i, c = multiplyBlock(dst[:n*size], src[:n], scale, to)
		}
		inf, nan = inf || i, nan || c
		src, dst, head = src[n:], dst[n*size:], width
	}
	return inf, nan
}
