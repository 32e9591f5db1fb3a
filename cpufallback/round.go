package cpufallback

import (
	"encoding/binary"
	"math"

	"github.com/metalcast/metalcast/internal/dtype"
	"github.com/x448/float16"
)

const infinity = 0x7F800000 // in float32

var little = binary.LittleEndian

// canonical gives every float32 NaN the same bits.
func canonical(w uint32) uint32 {
	if w&0x7FFFFFFF > infinity {
		return 0x7FC00000
	}
	return w
}

func finite(f float32) bool { return math.Float32bits(f)&infinity != infinity }

// roundTo rounds float32 bits, whose NaN is canonical, to the bits of another type, to nearest with ties to even.
func roundTo(to dtype.DType, w uint32) uint32 {
	switch to {
	case dtype.BF16:
		return uint32(roundBF16(w))
	case dtype.F16:
		return uint32(roundF16(w))
	}
	return w
}

// roundBF16 may carry into the exponent, and from there into infinity, as it should; the canonical NaN stays what it is.
func roundBF16(w uint32) uint16 { return uint16((w + 0x7FFF + w>>16&1) >> 16) }

// roundF16 carries likewise. In [2^-1, 1) float32 is spaced by 2^-24, float16's least subnormal, so adding 2^-1 rounds to a multiple of that.
func roundF16(w uint32) uint16 {
	sign, a := uint16(w>>16)&0x8000, w&0x7FFFFFFF
	switch {
	case a > infinity:
		return 0x7E00
	case a >= 0x47800000: // 65536
		return sign | 0x7C00
	case a <= 0x33000000: // 2^-25, a tie with zero
		return sign
	case a < 0x38800000: // 2^-14
		return sign | uint16(math.Float32bits(math.Float32frombits(a)+0.5)-0x3F000000)
	}
	return sign | uint16((a-0x38000000+0xFFF+a>>13&1)>>13)
}

// widenF16 is exact; NaN becomes canonical.
func widenF16(h uint16) uint32 { return canonical(math.Float32bits(float16.Frombits(h).Float32())) }

func widenBF16(h uint16) uint32 { return canonical(uint32(h) << 16) }

// nanBits is the canonical NaN of a type.
func nanBits(t dtype.DType) uint32 { return roundTo(t, 0x7FC00000) }

// widenE8M0 is 2^(b-127): the exponent field alone, but for the least, which is subnormal, and NaN.
func widenE8M0(b byte) uint32 {
	switch b {
	case 0:
		return 0x00400000
	case 0xFF:
		return 0x7FC00000
	}
	return uint32(b) << 23
}

// loadScale reads the scale of a block, given by its place in the job's grid of blocks.
func loadScale(in []byte, w *work, down, across int) float32 {
	at := w.Scale + (down*w.ScaleStride+across)*int(w.ScaleType.Size())
	if w.ScaleType == dtype.F8E8M0 {
		return math.Float32frombits(widenE8M0(in[at]))
	}
	return math.Float32frombits(widen(in[at:], 0, w.ScaleType))
}
