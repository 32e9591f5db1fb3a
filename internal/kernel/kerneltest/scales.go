package kerneltest

import (
	"math/rand/v2"

	"github.com/metalcast/metalcast/internal/dtype"
)

// all16 returns every pattern of a 16-bit type or, with a step greater than 1, a sample that
// includes both ends of each exponent.
func all16(t dtype.DType, step uint32) (s []uint32) {
	top := uint32(1)<<formatOf(t).mantissa - 1
	for w := range uint32(1 << 16) {
		if m := w & top; w%step == 0 || m <= 1 || m >= top-1 {
			s = append(s, w)
		}
	}
	return s
}

// edgeF32 returns float32 patterns where arithmetic is most likely to go wrong: both ends of the
// exponent's range with mantissas of every kind, then a few of each exponent, and products that
// round twice.
func edgeF32(rng *rand.Rand) (s []uint32) {
	for e := range uint32(256) {
		mantissas := []uint32{0, 1, 0x7FFFFF, 0x400000, rng.Uint32() & 0x7FFFFF}
		if e <= 11 || e >= 240 {
			mantissas = append(mantissas, 0x3FFFFF, 0x400001, 0x7FFFFE, 0x7F8000, 0x7F7FFF, 0x008000, 0x018000, 0x2AAAAA, 0x555555, 2, 3)
			for k := range 23 {
				mantissas = append(mantissas, 1<<k, 0x7FFFFF>>k<<k)
			}
		}
		for _, m := range mantissas {
			s = append(s, e<<23|m, 1<<31|e<<23|m)
		}
	}
	return append(append(s, twiceRounded(dtype.BF16)...), twiceRounded(dtype.F16)...)
}

// twiceRounded returns scales whose product with some code, 28 bits long, is almost halfway between
// two results: rounding it to float32 makes it a tie, which then goes to even whichever side it
// came from.
func twiceRounded(to dtype.DType) (s []uint32) {
	keep := formatOf(to).mantissa + 1
	for k := uint32(1) << (keep - 1); k < 1<<keep; k += 1 + uint32(1)<<keep>>9 {
		tie := k<<(28-keep) | 1<<(27-keep)
		for code := uint32(9); code < 16; code += 2 {
			for d := -7; d <= 7; d++ {
				p := uint32(int(tie) + d)
				if m := p / code; d != 0 && p%code == 0 && m>>23 == 1 {
					s = append(s, 127<<23|m&0x7FFFFF)
				}
			}
		}
	}
	return s
}

// allE8M0 returns every scale of that type.
func allE8M0() (s []uint32) {
	for w := range uint32(256) {
		s = append(s, w)
	}
	return s
}

// randomF32 returns finite patterns of every exponent.
func randomF32(rng *rand.Rand, n int) (s []uint32) {
	for len(s) < n {
		if w := rng.Uint32(); w>>23&255 != 255 {
			s = append(s, w)
		}
	}
	return s
}

// castPatterns returns float32 patterns around every value where a narrower type rounds, ends or
// becomes subnormal.
func castPatterns(rng *rand.Rand, random int) (s []uint32) {
	for e := range uint32(256) {
		for k := range 23 {
			for _, top := range []uint32{1, 3, 0x7FFFFF} {
				for d := range uint32(3) {
					m := (top<<k + d - 1) & 0x7FFFFF
					s = append(s, e<<23|m, 1<<31|e<<23|m)
				}
			}
		}
	}
	for range random {
		s = append(s, rng.Uint32())
	}
	return s
}
