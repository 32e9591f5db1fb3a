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

func roundF16(w uint32) uint16 { return float16.Fromfloat32(math.Float32frombits(w)).Bits() }

// widenF16 is exact; NaN becomes canonical.
func widenF16(h uint16) uint32 { return canonical(math.Float32bits(float16.Frombits(h).Float32())) }

func widenBF16(h uint16) uint32 { return canonical(uint32(h) << 16) }

// nanBits is the canonical NaN of a type.
func nanBits(t dtype.DType) uint32 { return roundTo(t, 0x7FC00000) }

// loadScale reads the scale of a block, given by its place in the job's grid of blocks.
func loadScale(in []byte, w *work, down, across int) float32 {
	at := down*w.ScaleStride + across
	if w.ScaleType == dtype.BF16 {
		return math.Float32frombits(uint32(little.Uint16(in[w.Scale+2*at:])) << 16)
	}
	return math.Float32frombits(little.Uint32(in[w.Scale+4*at:]))
}
