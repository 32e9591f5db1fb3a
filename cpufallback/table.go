package cpufallback

import (
	"math"

	"github.com/metalcast/metalcast/internal/dtype"
)

// result is the bits of an output element.
type result interface{ uint16 | uint32 }

// table holds the result of every code for one scale.
type table[T result] [256]T

// e4m3 is the value of every E4M3FN code.
var e4m3 = func() (t [256]float32) {
	for c := range t {
		e, m := c>>3&15, c&7
		v := math.Ldexp(float64(m), -9)
		if e > 0 {
			v = math.Ldexp(float64(8+m), e-10)
		}
		if c&127 == 127 {
			v = math.NaN()
		}
		if c >= 128 {
			v = -v
		}
		t[c] = float32(v)
	}
	return t
}()

// product is the bits of a code times a scale in float32, NaN canonical.
func product(c byte, scale float32) uint32 { return canonical(math.Float32bits(e4m3[c] * scale)) }

// fill computes a block's table. It gives the least magnitude of a code whose result is infinite though code and scale are finite, 127
// where there is none.
func fill[T result](t *table[T], scale float32, to dtype.DType) (least byte) {
	nan := T(nanBits(to))
	sign := T(1) << (8*to.Size() - 1)
	least = 127
	// With a scale exponent in [10, 240] products lie in [2^-126, 2^123): normal in float32 and bfloat16 even after rounding up.
	if e := math.Float32bits(scale) >> 23 & 255; 10 <= e && e <= 240 && to != dtype.F16 {
		fillNormal(t, scale, to)
	} else {
		inf := T(roundTo(to, infinity))
		for c := range byte(127) {
			v := T(roundTo(to, product(c, scale)))
			if v&^sign == inf && least == 127 && finite(scale) {
				least = c
			}
			t[c] = v
		}
	}
	for c := range byte(127) {
		if t[c] == nan { // infinity times zero, or a NaN scale
			t[128+c] = nan
		} else {
			t[128+c] = t[c] ^ sign
		}
	}
	t[127], t[255] = nan, nan
	return least
}

// fillNormal computes 127 magnitudes whose results are all normal numbers: the mantissa of a result depends on the mantissa of the
// code alone, so one product for each gives the others by steps of the exponent. Subnormal codes are products of their own.
func fillNormal[T result](t *table[T], scale float32, to dtype.DType) {
	mantissa := 7
	if to == dtype.F32 {
		mantissa = 23
	}
	step := T(1) << mantissa
	for m := range byte(8) {
		t[m] = T(roundTo(to, product(m, scale)))
		v := T(roundTo(to, product(8+m, scale)))
		for c := 8 + m; c < 128; c += 8 {
			t[c] = v
			v += step
		}
	}
}
