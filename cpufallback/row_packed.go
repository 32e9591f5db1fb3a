//go:build !purego && (amd64 || arm64 || loong64 || riscv64 || ppc64le)

package cpufallback

import "unsafe"

// packedRows are portableRows without the bounds checks and slice arithmetic, about a sixth faster. The machines in the build
// constraint are little-endian and load words from any address.
var packedRows = rows{
	row16: func(dst, src []byte, t []table[uint16], head, width int) bool {
		return bySegment(dst, src, t, head, width, packed16)
	},
	row32: func(dst, src []byte, t []table[uint32], head, width int) bool {
		return bySegment(dst, src, t, head, width, packed32)
	},
}

// packed16 is portable16, sixteen codes in a round.
func packed16(dst, src []byte, t *table[uint16]) (seen uint64) {
	n := len(src) &^ 15
	s, d := unsafe.Pointer(unsafe.SliceData(src)), unsafe.Pointer(unsafe.SliceData(dst[:2*len(src)])) // the only bounds check
	for i := 0; i < n; i += 16 {
		c := unsafe.Add(s, i)
		o := (*[4]uint64)(unsafe.Add(d, 2*i))
		w := (*[2]uint64)(c)
		seen |= seenNaN(w[0]) | seenNaN(w[1])
		o[0] = four16(t, (*[4]byte)(c))
		o[1] = four16(t, (*[4]byte)(unsafe.Add(c, 4)))
		o[2] = four16(t, (*[4]byte)(unsafe.Add(c, 8)))
		o[3] = four16(t, (*[4]byte)(unsafe.Add(c, 12)))
	}
	return seen | tail16(dst[2*n:], src[n:], t)
}

// four16 reads the codes one by one: the load unit takes a byte apart for less than a shift and a mask.
func four16(t *table[uint16], c *[4]byte) uint64 {
	return uint64(t[c[0]]) | uint64(t[c[1]])<<16 | uint64(t[c[2]])<<32 | uint64(t[c[3]])<<48
}

// packed32 is portable32.
func packed32(dst, src []byte, t *table[uint32]) (seen uint64) {
	n := len(src) &^ 7
	s, d := unsafe.Pointer(unsafe.SliceData(src)), unsafe.Pointer(unsafe.SliceData(dst[:4*len(src)]))
	for i := 0; i < n; i += 8 {
		c := (*[8]byte)(unsafe.Add(s, i))
		o := (*[4]uint64)(unsafe.Add(d, 4*i))
		seen |= seenNaN(*(*uint64)(unsafe.Pointer(c)))
		o[0] = uint64(t[c[0]]) | uint64(t[c[1]])<<32
		o[1] = uint64(t[c[2]]) | uint64(t[c[3]])<<32
		o[2] = uint64(t[c[4]]) | uint64(t[c[5]])<<32
		o[3] = uint64(t[c[6]]) | uint64(t[c[7]])<<32
	}
	return seen | tail32(dst[4*n:], src[n:], t)
}
