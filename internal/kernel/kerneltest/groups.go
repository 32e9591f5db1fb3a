package kerneltest

import (
	"math"
	"math/rand/v2"

	"github.com/metalcast/metalcast/internal/dtype"
	"github.com/metalcast/metalcast/internal/kernel"
)

// A kind fills a group of the matrix to quantize; greatest and least are limits of its type. Its
// values are rounded to that type and to the source's.
type kind func(rng *rand.Rand, w []float64, greatest, least float64)

var kinds = []kind{
	weights, magnitudes, anyBits, zeros, zerosAndOne, equal, subnormals, huge, oneSign, negative, epsilons, affineHalves, elementHalves, neighbours, saturated, enormous, broken, beyond,
}

func normal(rng *rand.Rand, w []float64, deviation float64) {
	for i := range w {
		w[i] = deviation * rng.NormFloat64()
	}
}

func weights(rng *rand.Rand, w []float64, _, _ float64) { normal(rng, w, 0.02) }

func magnitudes(rng *rand.Rand, w []float64, greatest, least float64) {
	lo, hi := math.Log2(least), math.Log2(greatest)
	normal(rng, w, math.Exp2(lo+(hi-lo-3)*rng.Float64()))
}

func anyBits(rng *rand.Rand, w []float64, greatest, _ float64) {
	for i := range w {
		if x := math.Abs(float64(math.Float32frombits(rng.Uint32()))); x <= greatest {
			w[i] = math.Copysign(x, rng.Float64()-0.5)
		}
	}
}

func zeros(rng *rand.Rand, w []float64, _, _ float64) {
	for i := range w {
		w[i] = math.Copysign(0, rng.Float64()-0.5)
	}
}

func zerosAndOne(rng *rand.Rand, w []float64, _, _ float64) {
	zeros(rng, w, 0, 0)
	w[rng.IntN(len(w))] = rng.NormFloat64()
}

func equal(rng *rand.Rand, w []float64, greatest, least float64) {
	magnitudes(rng, w[:1], greatest, least)
	for i := range w {
		w[i] = w[0]
	}
}

func subnormals(rng *rand.Rand, w []float64, _, least float64) {
	most := 1 << rng.IntN(12)
	for i := range w {
		w[i] = float64(rng.IntN(2*most+1)-most) * least
	}
}

// huge has ranges that float32 or the scale's type may be unable to represent.
func huge(rng *rand.Rand, w []float64, greatest, _ float64) {
	for i := range w {
		w[i] = greatest * (2*rng.Float64() - 1)
	}
	w[rng.IntN(len(w))] = greatest / float64(uint(1)<<rng.IntN(6))
}

func oneSign(rng *rand.Rand, w []float64, _, _ float64) {
	normal(rng, w, 0.1)
	for i := range w {
		w[i] = math.Abs(w[i]) + 0.3*float64(rng.IntN(2))
	}
}

func negative(rng *rand.Rand, w []float64, _, _ float64) {
	oneSign(rng, w, 0, 0)
	for i := range w {
		w[i] = -w[i] - 0.2
	}
}

// epsilons has scales near MLX's smallest.
func epsilons(rng *rand.Rand, w []float64, _, _ float64) {
	normal(rng, w, 1e-7*math.Exp2(14*rng.Float64()-6))
}

func affineHalves(rng *rand.Rand, w []float64, _, _ float64) {
	most := []int{1, 3, 7, 15, 31, 63, 255}[rng.IntN(7)]
	unit, zero := power(1, rng.IntN(12)-12), float64(rng.IntN(most+1))
	for i := range w {
		w[i] = (float64(rng.IntN(2*most+1))/2 - zero) * unit
	}
	w[0], w[len(w)-1] = -zero*unit, (float64(most)-zero)*unit
}

func elementHalves(rng *rand.Rand, w []float64, _, _ float64) {
	unit := power(1, rng.IntN(12)-8)
	for i := range w {
		c := rng.IntN(7)
		w[i] = (e2m1[c] + e2m1[c+1]) / 2
		if rng.IntN(3) == 0 {
			c = rng.IntN(126)
			w[i] = (codes[c] + codes[c+1]) / 128
		}
		w[i] = math.Copysign(w[i]*unit, rng.Float64()-0.5)
	}
	w[0] = 6 * unit
}

func neighbours(rng *rand.Rand, w []float64, greatest, least float64) {
	magnitudes(rng, w[:1], greatest, least)
	for i := range w {
		w[i] = w[0] * (1 + power(float64(i), -7-rng.IntN(17)))
	}
}

// saturated has an NVFP4 scale near the greatest of its type.
func saturated(rng *rand.Rand, w []float64, _, _ float64) {
	normal(rng, w, 500)
	w[rng.IntN(len(w))] = 6 * (440 + 50*rng.Float64())
}

// enormous has quotients that float32 cannot distinguish from their differences to the values of
// E2M1, if the type can represent them.
func enormous(rng *rand.Rand, w []float64, greatest, _ float64) {
	normal(rng, w, min(greatest/8, math.Exp2(30+8*rng.Float64())))
}

// broken has elements that are not finite.
func broken(rng *rand.Rand, w []float64, _, _ float64) {
	normal(rng, w, 0.02)
	for range 1 + rng.IntN(3) {
		w[rng.IntN(len(w))] = []float64{math.NaN(), math.Inf(1), math.Inf(-1)}[rng.IntN(3)]
	}
}

// beyond has elements that the type may be unable to represent.
func beyond(rng *rand.Rand, w []float64, greatest, _ float64) {
	normal(rng, w, 0.02)
	w[rng.IntN(len(w))] = greatest * (1 + rng.Float64())
}

// elements draws a group, in bits of the source's type.
func elements(rng *rand.Rand, bits []uint32, k kind, p *kernel.Params) {
	to, from := formatOf(p.To), formatOf(p.From)
	w := make([]float64, len(bits))
	k(rng, w, to.value(to.infinity()-1), to.value(1))
	for i, x := range w {
		v := to.round(x)
		switch {
		case math.IsNaN(x): // any value, including the greatest
			bits[i] = from.infinity() + 1 + rng.Uint32N(1<<from.mantissa-1)
			if rng.IntN(2) == 0 {
				bits[i] = from.sign()<<1 - 1 - rng.Uint32N(2)*from.sign()
			}
		case to.isInf(v):
			bits[i] = from.round(x)
		default:
			bits[i] = from.round(to.value(v))
		}
	}
}

// codeGroup draws a group of codes, rarely with NaNs.
func codeGroup(rng *rand.Rand, group []uint32) {
	mask, nan := byte(0xFF), rng.IntN(12) == 0
	if rng.IntN(3) == 0 {
		mask = []byte{0x80, 0x87, 0xF8, 0x01, 0x70}[rng.IntN(5)]
	}
	c := byte(rng.Uint32())
	for i := range group {
		if mask != 0x01 { // otherwise all are alike
			c = byte(rng.Uint32()) & mask
		}
		if group[i] = uint32(c); !nan {
			group[i] = uint32(sound(c))
		}
	}
}

// groupScale draws a scale: an ordinary one, a power of two, or one at either end of the range.
func groupScale(rng *rand.Rand, t dtype.DType) uint32 {
	if t == dtype.F8E8M0 {
		if rng.IntN(4) == 0 {
			return rng.Uint32N(256)
		}
		return 110 + rng.Uint32N(20)
	}
	f := formatOf(t)
	switch rng.IntN(8) {
	case 0:
		return rng.Uint32() & (f.sign()<<1 - 1) // any bits
	case 1:
		return f.round(power(1, rng.IntN(20)-15))
	case 2:
		return f.infinity() - 1 - rng.Uint32N(1<<(f.mantissa+2))
	case 3:
		return rng.Uint32N(1 << (f.mantissa + 1)) // subnormal or slightly larger
	}
	return f.round(math.Exp2(-12*rng.Float64()) * (1 + rng.Float64()))
}
