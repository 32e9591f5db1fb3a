package dtype

import (
	"encoding/binary"
	"math"

	"github.com/x448/float16"
)

// Widen returns the first element of b, of type F32, BF16, F16 or F8E8M0, as a float32, which
// represents all of them exactly (2^-127 as a subnormal).
func (t DType) Widen(b []byte) float32 {
	switch t {
	case F32:
		return math.Float32frombits(binary.LittleEndian.Uint32(b))
	case BF16:
		return math.Float32frombits(uint32(binary.LittleEndian.Uint16(b)) << 16)
	case F16:
		return float16.Frombits(binary.LittleEndian.Uint16(b)).Float32()
	case F8E8M0:
		if b[0] == 0xFF {
			return float32(math.NaN())
		}
		return float32(math.Ldexp(1, int(b[0])-127))
	}
	panic("dtype: internal error: " + t.String() + " is not widened")
}
