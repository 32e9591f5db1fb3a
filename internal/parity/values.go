package parity

import (
	"math/rand/v2"

	"github.com/metalcast/metalcast/internal/dtype"
)

// allScales returns every scale of a type, samples for float32; quick takes fewer.
func allScales(t dtype.DType, quick bool) []uint32 {
	switch {
	case t == dtype.F32:
		return edgeF32(quick)
	case t == dtype.F8E8M0:
		return every(8)
	case quick:
		return sample(every(16), 64)
	}
	return every(16)
}

// edgeScales returns a few thousand.
func edgeScales(t dtype.DType) (s []uint32) {
	if t != dtype.BF16 {
		return allScales(t, true)
	}
	for _, w := range edgeF32(true) {
		s = append(s, w>>16)
	}
	return s
}

// ordinary draws a scale of a sound checkpoint.
func ordinary(rng *rand.Rand, t dtype.DType) uint32 {
	w := 0x3C000000 + rng.Uint32()&0x03FFFFFF // 2^-7 to 2
	switch t {
	case dtype.BF16:
		return w >> 16
	case dtype.F16:
		return 0x2000 + w&0x1FFF // the same range
	case dtype.F8E8M0:
		return w >> 23
	}
	return w
}

// every returns all patterns of so many bits.
func every(bits int) (s []uint32) {
	for w := range uint32(1) << bits {
		s = append(s, w)
	}
	return s
}

func sample(s []uint32, step int) (out []uint32) {
	for i := 0; i < len(s); i += step {
		out = append(out, s[i])
	}
	return out
}

// repeat makes the number of scales a multiple of 16, which a row of thin blocks needs.
func repeat(s []uint32) []uint32 {
	for i := 0; len(s)%16 != 0; i++ {
		s = append(s, s[i])
	}
	return s
}

// edgeF32 returns float32 patterns at both ends of every exponent, ties, patterns for which adding
// 1 is a tie or cancels, and random ones.
func edgeF32(quick bool) (s []uint32) {
	rng := rand.New(rand.NewPCG(11, 13))
	for e := range uint32(256) {
		for _, m := range []uint32{0, 1, 0x7FFFFF, 0x400000, 0x3FFFFF, 0x008000, 0x018000, 0x7F8000, rng.Uint32() & 0x7FFFFF} {
			s = append(s, e<<23|m, 1<<31|e<<23|m)
		}
	}
	for e := uint32(127 - 27); e <= 127+27; e++ {
		for k := range uint32(23) {
			for _, m := range []uint32{1 << k, 3 << k, 1<<k - 1, 1<<k + 1} {
				s = append(s, e<<23|m&0x7FFFFF, 1<<31|e<<23|m&0x7FFFFF)
			}
		}
	}
	if !quick {
		for range 60_000 {
			s = append(s, rng.Uint32())
		}
	}
	return s
}
