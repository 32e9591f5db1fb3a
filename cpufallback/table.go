package cpufallback

import (
	"math"

	"github.com/metalcast/metalcast/internal/dtype"
)

// result is the bits of an output element.
type result interface{ uint16 | uint32 }

// table holds the result of every code for one scale.
type table[T result] [256]T

var e4m3 = dtype.E4M3Values()

// product is the bits of a code times a scale in float32, NaN canonical.
func product(c byte, scale float32) uint32 { return canonical(math.Float32bits(e4m3[c] * scale)) }

// fill computes a block's table. It gives the least magnitude of a code whose result is infinite though code and scale are finite, 127
// where there is none.
func fill[T result](t *table[T], scale float32, to dtype.DType) (least byte) {
	nan, inf := T(nanBits(to)), T(roundTo(to, infinity))
	sign := T(1) << (8*to.Size() - 1)
	// Normal codes are 2^-6 and more and below 2^9, mantissas together below 4. With a scale exponent field in [7, 245] their
	// products have exponent fields in [1, 254], those of normal numbers in float32 and bfloat16.
	if e := math.Float32bits(scale) >> 23 & 255; 7 <= e && e <= 245 {
		fillNormal(t, scale, to, sign)
	} else {
		for c := range 127 {
			v := T(roundTo(to, product(byte(c), scale)))
			t[c], t[128+c] = v, v^sign
			if v == nan { // infinity times zero, or a NaN scale
				t[128+c] = nan
			}
		}
	}
	t[127], t[255] = nan, nan
	if t[126]&^sign != inf || !finite(scale) {
		return 127
	}
	for t[least]&^sign != inf {
		least++
	}
	return least
}

// leastOverflow is what fill gives, where the table is not at hand.
func leastOverflow(scale float32, to dtype.DType) (least byte) {
	inf := roundTo(to, infinity)
	result := func(c byte) uint32 { return roundTo(to, product(c, scale)&^(1<<31)) }
	if !finite(scale) || result(126) != inf {
		return 127
	}
	for result(least) != inf {
		least++
	}
	return least
}

// fillNormal computes a table in which normal codes have normal products in float32. The mantissa of such a product depends on the
// mantissa of the code alone, so one multiplication for each gives the others by steps of the exponent; in bfloat16 that holds of
// rounded products too, in float16 each is rounded. Subnormal codes are products of their own.
func fillNormal[T result](t *table[T], scale float32, to dtype.DType, sign T) {
	mantissa := 7
	if to == dtype.F32 {
		mantissa = 23
	}
	step := T(1) << mantissa
	for m := range 8 {
		v := T(roundTo(to, product(byte(m), scale)))
		t[m], t[128+m] = v, v^sign
		p := product(byte(8+m), scale)
		if to == dtype.F16 {
			for c := 8 + m; c < 128; c += 8 {
				v = T(roundF16(p))
				t[c], t[128+c] = v, v^sign
				p += 1 << 23
			}
			continue
		}
		v = T(roundTo(to, p))
		for c := 8 + m; c < 128; c += 8 {
			t[c], t[128+c] = v, v^sign
			v += step
		}
	}
}
