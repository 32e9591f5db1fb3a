package mlxquant

import (
	"math"

	"github.com/metalcast/metalcast/internal/dtype"
)

// mx quantizes a group to MXFP4 or MXFP8.
func (q *Quantizer) mx(codes *[mostGroup]byte, w []float32) (scale uint32, finite bool) {
	amax, finite := magnitude(w)
	if !finite {
		return 0, false
	}
	most := float32(6)
	if q.Mode == MXFP8 {
		most = 448
	}
	if q.profile == CPU {
		e := 0
		if r := q.keep(amax / most); r != 0 {
			e = ceilLog2(r)
		}
		q.divide(codes, w, float32(math.Ldexp(1, e)))
		return uint32(byte(e + 127)), true
	}
	scale, inverse := metalMX(amax / most)
	if q.Mode == MXFP8 {
		for i, x := range w[:min(len(w), mostGroup)] {
			codes[i] = toE4M3(float32(x * inverse))
		}
	} else {
		evenE2M1(codes, w, inverse)
	}
	return scale, true
}

// metalMX returns as the scale the smallest power of two that is at least r, and its reciprocal.
func metalMX(r float32) (scale uint32, inverse float32) {
	e := max(ceilLog2(r), -127)
	return uint32(e + 127), float32(math.Ldexp(1, -e))
}

// metalNV returns the scale nearest to r and its reciprocal, or 0 for 0.
func metalNV(r float32) (scale uint32, inverse float32) {
	code := toE4M3(r)
	if code != 0 {
		inverse = 1 / e4m3[code]
	}
	return uint32(code), inverse
}

// nv quantizes a group to NVFP4.
func (q *Quantizer) nv(codes *[mostGroup]byte, w []float32) (scale uint32, finite bool) {
	amax, finite := magnitude(w)
	if !finite {
		return 0, false
	}
	if q.profile == Metal {
		scale, inverse := metalNV(amax / 6)
		evenE2M1(codes, w, inverse)
		return scale, true
	}
	code := toE4M3(q.keep(amax / 6))
	if code != 0 { // otherwise the codes are already 0
		q.divide(codes, w, e4m3[code])
	}
	return uint32(code), true
}

// ceilLog2 returns the smallest e with 2^e >= r; for r = 0 it is less than any other.
func ceilLog2(r float32) int {
	b := math.Float64bits(float64(r)) // all of float32 is normal here
	e := int(b>>52) - 1023
	if b<<12 != 0 {
		e++
	}
	return e
}

// divide computes elements as the CPU does: with true divisions whose results are narrowed.
func (q *Quantizer) divide(codes *[mostGroup]byte, w []float32, d float32) {
	for i, x := range w[:min(len(w), mostGroup)] {
		v := q.keep(x / d)
		if q.Mode == MXFP8 {
			codes[i] = toE4M3(v)
		} else {
			codes[i] = nearestE2M1(v)
		}
	}
}

// toE4M3 rounds to nearest with ties to even, saturates, and keeps the sign. Adding a power of two
// whose last bit is three bits below v's first, or is 2^-9, makes the significand of v end there.
func toE4M3(v float32) byte {
	const least = 121 << 23 // 2^-6, the smallest normal number
	b := math.Float32bits(v)
	a := b &^ (1 << 31)
	e := max(a, least) & infinity
	c := min(e+20<<23, infinity)
	n := math.Float32bits(math.Float32frombits(a)+math.Float32frombits(c)) - c
	return byte(min(n+(e-least)>>20, 0x7E) | b>>24&0x80)
}

var e4m3 = dtype.E4M3Values()

var (
	e2m1  = [8]float32{0, 0.5, 1, 1.5, 2, 3, 4, 6}
	halve = [7]float32{0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5} // the midpoints between them
)

// cells maps a magnitude's exponent and two more bits, from just below 0.25 on, to its E2M1 code:
// no midpoint is inside a cell. The upper 32 entries are for negative numbers.
type cells [64]byte

const firstCell = 0x3E800000>>21 - 1

func newCells(negativeZero bool) (t cells) {
	for i := range 32 {
		v := math.Float32frombits(uint32(firstCell+i) << 21)
		for _, h := range halve {
			if i > 0 && v >= h {
				t[i]++
			}
		}
		t[32+i] = t[i]
		if t[i] != 0 || negativeZero {
			t[32+i] |= 8
		}
	}
	return t
}

var cellsMetal, cellsCPU = newCells(true), newCells(false)

// cell returns the index in a table of cells for the number with bits b, whose magnitude has bits
// a.
func cell(b uint32, a int32) uint32 {
	return uint32(min(max(a>>21-firstCell, 0), 31)) | b>>31<<5
}

// evenE2M1 computes elements as Metal does: ties go to the even code. For 0.25, 1.25, 2.5 and 5
// that is the lower code: their bits minus one are in the cell below. 0.75, 1.75 and 3.5 have the
// bit after the leading one set, and stay.
func evenE2M1(codes *[mostGroup]byte, w []float32, inverse float32) {
	for i, x := range w[:min(len(w), mostGroup)] {
		b := math.Float32bits(float32(x * inverse))
		a := int32(b &^ (1 << 31))
		codes[i] = cellsMetal[cell(b, a-1+a>>22&1)]
	}
}

// nearestE2M1 rounds as the CPU does: ties go to the smaller magnitude.
func nearestE2M1(v float32) byte {
	b := math.Float32bits(v)
	a := b &^ (1 << 31)
	if a >= 149<<23 { // from 2^22 on: the first smallest |v-value|, whose differences are rounded
		return argminE2M1(v)
	}
	return cellsCPU[cell(b, int32(a)-1)]
}

func argminE2M1(v float32) (code byte) {
	least := float32(math.Inf(1))
	for c := range byte(16) {
		value := e2m1[c&7]
		if c >= 8 {
			value = -value
		}
		if d := abs(v - value); d < least {
			code, least = c, d
		}
	}
	return code
}
