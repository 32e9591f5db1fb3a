package mlxquant

// pack packs codes of one byte each into bits per code. Eight codes make bits bytes; they are
// gathered in three steps, each of which joins neighbouring fields.
func pack(dst []byte, codes *[mostGroup]byte, bits uint) {
	if bits == 8 {
		copy(dst, codes[:])
		return
	}
	c := codes[:]
	for ; len(dst) >= 8 && len(c) >= 8; dst, c = dst[bits:], c[8:] {
		little.PutUint64(dst, squeeze(little.Uint64(c), bits)) // the bytes beyond are overwritten next
	}
	for ; len(dst) > 0 && len(c) >= 8; dst, c = dst[bits:], c[8:] {
		v := squeeze(little.Uint64(c), bits)
		for i := range dst[:bits] {
			dst[i] = byte(v >> (8 * i))
		}
	}
}

const (
	bytesApart = 0x00FF00FF00FF00FF
	wordsApart = 0x0000FFFF0000FFFF
)

func squeeze(v uint64, bits uint) uint64 {
	v = v&bytesApart | v>>8&bytesApart<<(bits&63)
	v = v&wordsApart | v>>16&wordsApart<<(2*bits&63)
	return v&0xFFFFFFFF | v>>32<<(4*bits&63)
}

// unpack is the inverse of pack.
func unpack(codes *[mostGroup]byte, src []byte, bits uint) {
	mask := byte(1<<bits - 1)
	var v uint64
	have := uint(0)
	c := codes[:0]
	for _, b := range src {
		v |= uint64(b) << have
		for have += 8; have >= bits; have -= bits {
			c = append(c, byte(v)&mask)
			v >>= bits
		}
	}
}
