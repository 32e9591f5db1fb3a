package mlxquant

import (
	"math"

	"github.com/metalcast/metalcast/internal/dtype"
	"github.com/x448/float16"
)

// narrow rounds x to the bits of a type, to nearest with ties to even. x is not NaN.
func narrow(to dtype.DType, x float32) uint32 {
	b := math.Float32bits(x)
	switch to {
	case dtype.BF16:
		return (b + 0x7FFF + b>>16&1) >> 16
	case dtype.F16:
		return uint32(float16.Fromfloat32(x).Bits())
	}
	return b
}

// widen converts the bits of a type to float32, exactly.
func widen(from dtype.DType, bits uint32) float32 {
	switch from {
	case dtype.BF16:
		bits <<= 16
	case dtype.F16:
		return float16.Frombits(uint16(bits)).Float32()
	}
	return math.Float32frombits(bits)
}

// keep rounds x to a value of the source type.
func (q *Quantizer) keep(x float32) float32 { return widen(q.from, narrow(q.from, x)) }

// Widen converts the little-endian elements of a row to float32, as Group and Row expect them.
func Widen(dst []float32, src []byte, from dtype.DType) {
	n := fastWiden(dst, src, from)
	dst, src = dst[n:], src[int(from.Size())*n:]
	switch from {
	case dtype.BF16:
		for i := range dst {
			dst[i] = math.Float32frombits(uint32(little.Uint16(src[2*i:])) << 16)
		}
	case dtype.F16:
		for i := range dst {
			dst[i] = widen(from, uint32(little.Uint16(src[2*i:])))
		}
	default:
		for i := range dst {
			dst[i] = math.Float32frombits(little.Uint32(src[4*i:]))
		}
	}
}
