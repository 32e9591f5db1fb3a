package synth

import (
	"encoding/binary"
	"hash/fnv"
	"math"
	"math/rand/v2"

	"github.com/metalcast/metalcast/internal/dtype"
)

// content is the endless data of one tensor. It depends only on the seed and the tensor's name, not
// on shards, order or machine.
type content struct {
	rng          rand.PCG
	dtype        dtype.DType
	mean, spread float32
	mask         uint32 // the bits of a float32 to keep
}

func newContent(seed uint64, t *tensor) *content {
	h := fnv.New64a()
	h.Write([]byte(t.Name))
	k := kinds[t.kind]
	c := &content{dtype: t.DType, mean: k.mean, spread: k.spread, mask: ^uint32(0)}
	if t.kind == powerOfTwo {
		c.mask = 0xFF800000 // sign and exponent
	}
	c.rng.Seed(seed, h.Sum64())
	return c
}

// fill writes the next len(p) bytes. Every call except a tensor's last must ask for a multiple of
// 8.
func (c *content) fill(p []byte) {
	whole, rest := p[:len(p)&^7], p[len(p)&^7:]
	switch c.dtype {
	case dtype.F8E4M3:
		for ; len(whole) >= 8; whole = whole[8:] {
			binary.LittleEndian.PutUint64(whole, withoutNaN(c.rng.Uint64()))
		}
	case dtype.F32:
		for ; len(whole) >= 8; whole = whole[8:] {
			r := c.rng.Uint64()
			binary.LittleEndian.PutUint32(whole, c.bits(float32(int32(r))*(1.0/(1<<31))))
			binary.LittleEndian.PutUint32(whole[4:], c.bits(float32(int32(r>>32))*(1.0/(1<<31))))
		}
	default:
		for ; len(whole) >= 8; whole = whole[8:] {
			r := c.rng.Uint64()
			binary.LittleEndian.PutUint64(whole, c.bf16(r)|c.bf16(r>>16)<<16|c.bf16(r>>32)<<32|c.bf16(r>>48)<<48)
		}
	}
	if len(rest) > 0 {
		var last [8]byte
		c.fill(last[:])
		copy(rest, last[:])
	}
}

// bits maps -1..1 to the tensor's range. The conversion prevents the compiler from fusing, which
// would round differently on arm64.
func (c *content) bits(x float32) uint32 {
	return math.Float32bits(c.mean+float32(c.spread*x)) & c.mask
}

// bf16 maps 16 random bits to a value, rounded to nearest, ties to even.
func (c *content) bf16(r uint64) uint64 {
	b := c.bits(float32(int16(r)) * (1.0 / (1 << 15)))
	return uint64((b + 0x7FFF + b>>16&1) >> 16)
}

// withoutNaN replaces the two E4M3 codes that are NaN, 0x7F and 0xFF, with zeros of the same sign,
// in 8 codes at once.
func withoutNaN(w uint64) uint64 {
	const low7, ones = 0x7F7F7F7F7F7F7F7F, 0x0101010101010101
	nan := (w & low7) + ones       // bit 7 of a byte is set if the low bits were 0x7F
	nan = nan & ^uint64(low7) >> 7 // 1 in those bytes, 0 in others
	return w &^ (nan<<7 - nan)     // clears the 7 bits
}
