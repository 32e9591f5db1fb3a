package cpufallback

// rows are the loops over elements, the place for vector code: every implementation of a loop gives the same bytes.
type rows struct {
	row16 rowFunc[uint16]
	row32 rowFunc[uint32]
}

// rowFunc sends a row of codes through the tables of its blocks: the first head codes through t[0], then width codes through each of
// the others, the last of which may get fewer. dst has the size of len(src) results, stored little-endian. It tells whether
// a NaN code was among them.
type rowFunc[T result] func(dst, src []byte, t []table[T], head, width int) (nan bool)

// portableRows need neither unsafe nor a byte order.
var portableRows = rows{
	row16: func(dst, src []byte, t []table[uint16], head, width int) bool {
		return bySegment(dst, src, t, head, width, portable16)
	},
	row32: func(dst, src []byte, t []table[uint32], head, width int) bool {
		return bySegment(dst, src, t, head, width, portable32)
	},
}

// bySegment cuts a row at its blocks.
func bySegment[T result](dst, src []byte, t []table[T], head, width int, segment func(dst, src []byte, t *table[T]) uint64) bool {
	size := len(dst) / len(src)
	var seen uint64
	for i := range t {
		n := min(head, len(src))
		seen |= segment(dst[:n*size], src[:n], &t[i])
		dst, src, head = dst[n*size:], src[n:], width
	}
	return seen&signs != 0
}

// Eight codes at once.
const (
	magnitudes = 0x7F7F7F7F7F7F7F7F
	ones       = 0x0101010101010101
	signs      = 0x8080808080808080
)

// seenNaN has bit 7 of a byte set where the magnitude is 0x7F. Other bits mean nothing.
func seenNaN(codes uint64) uint64 { return codes&magnitudes + ones }

// portable16 expands the codes of one block. It gives seenNaN of all of them.
func portable16(dst, src []byte, t *table[uint16]) (seen uint64) {
	for len(src) >= 8 && len(dst) >= 16 {
		c, d := (*[8]byte)(src), (*[16]byte)(dst)
		seen |= seenNaN(little.Uint64(c[:]))
		little.PutUint64(d[:8], uint64(t[c[0]])|uint64(t[c[1]])<<16|uint64(t[c[2]])<<32|uint64(t[c[3]])<<48)
		little.PutUint64(d[8:], uint64(t[c[4]])|uint64(t[c[5]])<<16|uint64(t[c[6]])<<32|uint64(t[c[7]])<<48)
		src, dst = src[8:], dst[16:]
	}
	return seen | tail16(dst, src, t)
}

// tail16 expands what is left, code by code.
func tail16(dst, src []byte, t *table[uint16]) (seen uint64) {
	for i, c := range src {
		seen |= seenNaN(uint64(c))
		little.PutUint16(dst[2*i:], t[c])
	}
	return seen
}

func portable32(dst, src []byte, t *table[uint32]) (seen uint64) {
	for len(src) >= 8 && len(dst) >= 32 {
		c, d := (*[8]byte)(src), (*[32]byte)(dst)
		seen |= seenNaN(little.Uint64(c[:]))
		little.PutUint64(d[:8], uint64(t[c[0]])|uint64(t[c[1]])<<32)
		little.PutUint64(d[8:], uint64(t[c[2]])|uint64(t[c[3]])<<32)
		little.PutUint64(d[16:], uint64(t[c[4]])|uint64(t[c[5]])<<32)
		little.PutUint64(d[24:], uint64(t[c[6]])|uint64(t[c[7]])<<32)
		src, dst = src[8:], dst[32:]
	}
	return seen | tail32(dst, src, t)
}

func tail32(dst, src []byte, t *table[uint32]) (seen uint64) {
	for i, c := range src {
		seen |= seenNaN(uint64(c))
		little.PutUint32(dst[4*i:], t[c])
	}
	return seen
}
