//go:build !purego

package cpufallback

import (
	"math"

	"github.com/metalcast/metalcast/internal/dtype"
)

// fastRows is rows by NEON, which every arm64 has. A table of 16-bit results is planes: the low bytes of the magnitudes' results, then
// their high bytes. For a scale that is not finite, where a code's sign does not always show, it has no planes but the scale.
func fastRows() []namedRows {
	return []namedRows{{"NEON", rows{fillPlanes, fill[uint32], lookupNEON, row32, multiplyRow, castRow, func() {}}}}
}

// noPlanes, in a table's last element, marks one that has a scale instead, in the elements before.
const noPlanes = 1

//go:noescape
func split(t *uint16)

//go:noescape
func lookup16(dst, src *byte, t *uint16, head, width, n int) (left int, nan bool)

func fillPlanes(t *table[uint16], scale float32, to dtype.DType) (least byte) {
	if !finite(scale) {
		b := math.Float32bits(scale)
		t[252], t[253], t[254], t[255] = uint16(b), uint16(b>>16), uint16(to), noPlanes
		return 127
	}
	least = fill(t, scale, to)
	split(&t[0])
	t[255] = 0
	return least
}

func lookupNEON(dst, src []byte, t []table[uint16], head, width int, _ bool) (nan bool) {
	for len(src) > 0 {
		_, _ = dst[2*len(src)-1], t[(max(len(src)-head, 0)+width-1)/width]
		left, found := lookup16(&dst[0], &src[0], &t[0][0], head, width, len(src))
		nan = nan || found
		if left == 0 {
			break
		}
		done := len(src) - left
		if done > 0 {
			t, head = t[1+(done-head)/width:], width
		}
		src, dst = src[done:], dst[2*done:]
		n := min(head, len(src))
		scale := math.Float32frombits(uint32(t[0][252]) | uint32(t[0][253])<<16)
		_, found = multiplyBlock(dst[:2*n], src[:n], scale, dtype.DType(t[0][254]))
		nan = nan || found
		src, dst, t, head = src[n:], dst[2*n:], t[1:], width
	}
	return nan
}
