package cpufallback

import "github.com/metalcast/metalcast/internal/dtype"

// rows are the loops over elements, the place for vector code: every implementation gives the same bytes.
type rows struct {
	fill16   fillFunc[uint16]
	fill32   fillFunc[uint32]
	row16    rowFunc[uint16]
	row32    rowFunc[uint32]
	multiply multiplyFunc
	cast     func(dst, src []byte, from, to dtype.DType) (overflow bool) // see castRow
	fence    func()                                                      // after rows that stream
}

// fillFunc computes a block's table, as its rowFunc wants it: see fill. It gives the least magnitude of a code whose result is infinite
// though code and scale are finite, 127 where there is none.
type fillFunc[T result] func(t *table[T], scale float32, to dtype.DType) (least byte)

// rowFunc sends a row of codes through the tables of its blocks: the first head codes through t[0], then width codes through each of
// the others, the last of which may get fewer. dst has the size of len(src) results, stored little-endian; stream says that it is not read
// soon. It tells whether a NaN code was among them.
type rowFunc[T result] func(dst, src []byte, t []table[T], head, width int, stream bool) (nan bool)

// multiplyFunc multiplies a row, without tables: the first head codes by scales[0], then width codes by each of the others. It tells whether
// results are infinite or NaN, and whether a NaN code was among the codes.
type multiplyFunc func(dst, src []byte, scales []float32, head, width int, to dtype.DType) (inf, nan bool)

// scalarRows load and store words through encoding/binary, which the compiler turns into single instructions where the byte order
// fits: unsafe pointers would not be faster.
var scalarRows = rows{fill[uint16], fill[uint32], row16, row32, multiplyRow, castRow, func() {}}

// namedRows is rows that the machine can run.
type namedRows struct {
	name string
	rows
}

// everyRows is all that the machine can run, the best first.
func everyRows() []namedRows { return append(fastRows(), namedRows{"scalar", scalarRows}) }

// Eight codes at once.
const (
	magnitudes = 0x7F7F7F7F7F7F7F7F
	ones       = 0x0101010101010101
	signs      = 0x8080808080808080
)

// seenNaN has bit 7 of a byte set where the magnitude is 0x7F. Other bits mean nothing.
func seenNaN(codes uint64) uint64 { return codes&magnitudes + ones }

func row16(dst, src []byte, t []table[uint16], head, width int, _ bool) bool {
	var seen uint64
	for i := range t {
		n := min(head, len(src))
		seen |= block16(dst[:2*n], src[:n], &t[i])
		src, dst, head = src[n:], dst[2*n:], width
	}
	return seen&signs != 0
}

// block16 sends codes through one table. It is a function of its own so that all it needs is in registers; 32 codes at once, as slicing costs the time of some four.
func block16(dst, src []byte, t *table[uint16]) (seen uint64) {
	for len(src) >= 32 && len(dst) >= 64 {
		c, o := (*[32]byte)(src), (*[64]byte)(dst)
		seen |= seenNaN(little.Uint64(c[:])) | seenNaN(little.Uint64(c[8:])) | seenNaN(little.Uint64(c[16:])) | seenNaN(little.Uint64(c[24:]))
		little.PutUint64(o[:], four(t, (*[4]byte)(c[:])))
		little.PutUint64(o[8:], four(t, (*[4]byte)(c[4:])))
		little.PutUint64(o[16:], four(t, (*[4]byte)(c[8:])))
		little.PutUint64(o[24:], four(t, (*[4]byte)(c[12:])))
		little.PutUint64(o[32:], four(t, (*[4]byte)(c[16:])))
		little.PutUint64(o[40:], four(t, (*[4]byte)(c[20:])))
		little.PutUint64(o[48:], four(t, (*[4]byte)(c[24:])))
		little.PutUint64(o[56:], four(t, (*[4]byte)(c[28:])))
		src, dst = src[32:], dst[64:]
	}
	for k, c := range src {
		seen |= seenNaN(uint64(c))
		little.PutUint16(dst[2*k:], t[c])
	}
	return seen
}

// four packs the results of four codes. Each code is a load of its own: that costs less than taking a word apart.
func four(t *table[uint16], c *[4]byte) uint64 {
	return uint64(t[c[0]]) | uint64(t[c[1]])<<16 | uint64(t[c[2]])<<32 | uint64(t[c[3]])<<48
}

func row32(dst, src []byte, t []table[uint32], head, width int, _ bool) bool {
	var seen uint64
	for i := range t {
		n := min(head, len(src))
		seen |= block32(dst[:4*n], src[:n], &t[i])
		src, dst, head = src[n:], dst[4*n:], width
	}
	return seen&signs != 0
}

// block32 is block16 for results of 32 bits.
func block32(dst, src []byte, t *table[uint32]) (seen uint64) {
	for len(src) >= 16 && len(dst) >= 64 {
		c, o := (*[16]byte)(src), (*[64]byte)(dst)
		seen |= seenNaN(little.Uint64(c[:])) | seenNaN(little.Uint64(c[8:]))
		little.PutUint64(o[:], two(t, (*[2]byte)(c[:])))
		little.PutUint64(o[8:], two(t, (*[2]byte)(c[2:])))
		little.PutUint64(o[16:], two(t, (*[2]byte)(c[4:])))
		little.PutUint64(o[24:], two(t, (*[2]byte)(c[6:])))
		little.PutUint64(o[32:], two(t, (*[2]byte)(c[8:])))
		little.PutUint64(o[40:], two(t, (*[2]byte)(c[10:])))
		little.PutUint64(o[48:], two(t, (*[2]byte)(c[12:])))
		little.PutUint64(o[56:], two(t, (*[2]byte)(c[14:])))
		src, dst = src[16:], dst[64:]
	}
	for k, c := range src {
		seen |= seenNaN(uint64(c))
		little.PutUint32(dst[4*k:], t[c])
	}
	return seen
}

func two(t *table[uint32], c *[2]byte) uint64 { return uint64(t[c[0]]) | uint64(t[c[1]])<<32 }
