package kerneltest

import (
	"math"

	"github.com/metalcast/metalcast/internal/dtype"
)

// format is a binary floating-point interchange format with infinities.
type format struct{ exponent, mantissa int }

func formatOf(t dtype.DType) format {
	switch t {
	case dtype.F16:
		return format{5, 10}
	case dtype.BF16:
		return format{8, 7}
	case dtype.F32:
		return format{8, 23}
	}
	panic("kerneltest: no format " + t.String())
}

func (f format) bias() int        { return 1<<(f.exponent-1) - 1 }
func (f format) infinity() uint32 { return (1<<f.exponent - 1) << f.mantissa }
func (f format) nan() uint32      { return f.infinity() | 1<<(f.mantissa-1) }
func (f format) sign() uint32     { return 1 << (f.exponent + f.mantissa) }

// isInf reports whether w is an infinity of either sign.
func (f format) isInf(bits uint32) bool { return bits&^f.sign() == f.infinity() }

// value returns the exact number that bits stand for.
func (f format) value(w uint32) float64 {
	e, m := int(w>>f.mantissa)&(1<<f.exponent-1), w&(1<<f.mantissa-1)
	var v float64
	switch {
	case e == 1<<f.exponent-1 && m != 0:
		return math.NaN()
	case e == 1<<f.exponent-1:
		v = math.Inf(1)
	case e == 0:
		v = power(float64(m), 1-f.bias()-f.mantissa)
	default:
		v = power(float64(m|1<<f.mantissa), e-f.bias()-f.mantissa)
	}
	if w&f.sign() != 0 {
		v = -v
	}
	return v
}

// power returns m times two to the e, exactly while e is a normal exponent of float64.
func power(m float64, e int) float64 { return m * math.Float64frombits(uint64(e+1023)<<52) }

// round is RNE: it returns the bits nearest to a float64 that is zero, normal, infinite or NaN;
// ties go to even, NaN becomes canonical.
func (f format) round(v float64) uint32 {
	w := math.Float64bits(v)
	sign := uint32(w>>63) * f.sign()
	e, m := int(w>>52&0x7FF), w&(1<<52-1)
	switch {
	case e == 0x7FF && m != 0:
		return f.nan()
	case e == 0x7FF:
		return sign | f.infinity()
	case e == 0:
		return sign // zero
	}
	m |= 1 << 52
	drop, base := 52-f.mantissa, e-1023+f.bias() // bits to drop, exponent field of the result
	if base < 1 {
		drop, base = drop+1-base, 1 // subnormal results are in units of the smallest one
	}
	if drop > 54 {
		return sign // below half of the smallest subnormal
	}
	q, rest, half := m>>drop, m&(1<<drop-1), uint64(1)<<(drop-1)
	if rest > half || rest == half && q&1 == 1 {
		q++
	}
	// The leading bit of q, if it has one, adds 1 to the exponent field, and so does a carry.
	r := uint64(base-1)<<f.mantissa + q
	return sign | uint32(min(r, uint64(f.infinity())))
}

// codes has the value of every E4M3FN code, from its definition.
var codes = func() (t [256]float64) {
	for c := range t {
		e, m := c>>3&15, c&7
		v := float64(8+m) / 8 * math.Pow(2, float64(e-7))
		if e == 0 {
			v = float64(m) / 8 * math.Pow(2, -6)
		}
		if c&0x7F == 0x7F {
			v = math.NaN()
		}
		if c >= 0x80 {
			v = -v
		}
		t[c] = v
	}
	return t
}()

// e8m0 returns the value of a scale of that type.
func e8m0(b byte) float64 {
	if b == 0xFF {
		return math.NaN()
	}
	return power(1, int(b)-127)
}

// plusOne returns the sum in type from, converted to type to. x has at most 24 significant bits:
// from 2^-29 to 2^53 its sum with 1 is exact in float64, and elsewhere so far from a tie of float32
// that rounding to float64 first changes nothing. TestPlusOne compares with exact sums.
func plusOne(x float64, from, to format) uint32 {
	single := formatOf(dtype.F32)
	sum := single.value(single.round(x + 1))
	return to.round(from.value(from.round(sum)))
}

// dequant returns the result for one element and the value of its scale.
func dequant(code byte, scale float64, to format) uint32 {
	single := formatOf(dtype.F32)
	w := single.round(codes[code] * scale)
	if to == single {
		return w
	}
	return to.round(single.value(w))
}
