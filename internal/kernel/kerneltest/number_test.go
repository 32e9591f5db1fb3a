package kerneltest

import (
	"math"
	"math/big"
	"math/rand/v2"
	"testing"

	"github.com/metalcast/metalcast/internal/dtype"
	"github.com/metalcast/metalcast/internal/needtest"
	"github.com/stretchr/testify/require"
)

// The reference's own arithmetic, compared with math/big and values from the standards.
func TestRound(t *testing.T) {
	needtest.Alone(t)
	f16, bf16, f32 := formatOf(dtype.F16), formatOf(dtype.BF16), formatOf(dtype.F32)
	for _, c := range []struct {
		f    format
		v    float64
		want uint32
	}{
		{f16, 65504, 0x7BFF}, {f16, 65519.999, 0x7BFF}, {f16, 65520, 0x7C00}, {f16, -65520, 0xFC00}, {f16, 1, 0x3C00},
		{f16, 0x1p-24, 1}, {f16, 0x1p-25, 0}, {f16, 0x1.000002p-25, 1}, {f16, -0x1p-26, 0x8000}, {f16, 0x1.8p-24, 2}, {f16, 0x1.ff8p-15, 0x3FF},
		{f16, 0x1.ffcp-15, 0x400}, {f16, math.NaN(), 0x7E00}, {f16, math.Inf(-1), 0xFC00},
		{bf16, 1, 0x3F80}, {bf16, 1.00390625, 0x3F80}, {bf16, 1.01171875, 0x3F82}, {bf16, 0x1.ffp127, 0x7F80}, {bf16, 0x1.fefffep127, 0x7F7F},
		{bf16, 0x1p-133, 1}, {bf16, 0x1p-134, 0}, {bf16, math.Copysign(0, -1), 0x8000}, {bf16, math.NaN(), 0x7FC0},
		{f32, 0x1p-149, 1}, {f32, 0x1p-150, 0}, {f32, 0x1.8p-149, 2}, {f32, math.MaxFloat64, 0x7F800000}, {f32, math.NaN(), 0x7FC00000},
	} {
		require.Equal(t, c.want, c.f.round(c.v), "%+v %x", c.f, c.v)
	}
	rng := rand.New(rand.NewPCG(1, 2))
	for range 200_000 {
		w := rng.Uint64()
		if rng.IntN(2) == 0 { // exponents around float32's range, few bits: ties
			w = w&(1<<63) | uint64(870+rng.IntN(290))<<52 | w&(1<<52-1)&^(1<<(26+rng.IntN(26))-1)
		}
		v := math.Float64frombits(w)
		if math.IsNaN(v) || v != 0 && math.Abs(v) < 0x1p-1022 {
			continue
		}
		var want float32 = float32(math.Inf(1))
		if !math.IsInf(v, 0) {
			want, _ = new(big.Float).SetFloat64(v).Float32()
		} else if v < 0 {
			want = -want
		}
		require.Equal(t, math.Float32bits(want), f32.round(v), "%x", v)
	}
	for w := range uint32(1 << 16) { // a format's values are fixed points
		for _, f := range []format{f16, bf16} {
			if v := f.value(w); !math.IsNaN(v) {
				require.Equal(t, w, f.round(v))
			}
		}
	}
}

// The corpus must contain values that distinguish one rounding from two.
func TestDoubleRounding(t *testing.T) {
	single := formatOf(dtype.F32)
	for _, to := range []dtype.DType{dtype.BF16, dtype.F16} {
		f, n := formatOf(to), 0
		for _, s := range twiceRounded(to) {
			for c := range byte(127) {
				exact := codes[c] * single.value(s)
				if f.round(exact) != dequant(c, single.value(s), f) {
					n++
				}
			}
		}
		require.Greater(t, n, 1000, to)
	}
}

// TestPlusOne compares sums with exact ones, rounded once by math/big to float32, and with values
// that were calculated by hand.
func TestPlusOne(t *testing.T) {
	needtest.Alone(t)
	single := formatOf(dtype.F32)
	for _, c := range []struct {
		from, to dtype.DType
		x        float64
		want     uint32
	}{
		{dtype.BF16, dtype.BF16, -1, 0}, {dtype.BF16, dtype.BF16, math.Copysign(0, -1), 0x3F80}, {dtype.BF16, dtype.BF16, 0x1p-8, 0x3F80},
		// 1 + 3*2^-8: a tie of bfloat16, though exact in float32
		{dtype.BF16, dtype.F32, 0x1.8p-7, 0x3F820000},
		{dtype.BF16, dtype.F16, 0x1p-7, 0x3C08}, {dtype.BF16, dtype.BF16, 256, 0x4380}, {dtype.BF16, dtype.BF16, 258, 0x4382},
		{dtype.F16, dtype.F16, 0x1p-24, 0x3C00}, {dtype.F16, dtype.F16, 0x1.8p-10, 0x3C02}, {dtype.F16, dtype.F32, 2049 - 1, 0x45000000}, {dtype.F16, dtype.F16, 65504, 0x7BFF},
		{dtype.F32, dtype.F32, 0x1p-24, 0x3F800000}, {dtype.F32, dtype.F32, 0x1.8p-23, 0x3F800002}, {dtype.F32, dtype.F32, -0x1p-25, 0x3F800000},
		{dtype.F32, dtype.F32, -0x1.000002p-25, 0x3F7FFFFF}, {dtype.F32, dtype.F32, -0x1p25, 0xCC000000}, {dtype.F32, dtype.F32, 0x1p24, 0x4B800000},
		{dtype.F32, dtype.F16, 65519, 0x7C00}, {dtype.F32, dtype.BF16, math.Inf(-1), 0xFF80}, {dtype.BF16, dtype.F16, math.NaN(), 0x7E00},
	} {
		require.Equal(t, c.want, plusOne(c.x, formatOf(c.from), formatOf(c.to)), "%+v", c)
	}
	rng := rand.New(rand.NewPCG(5, 5))
	list := append(nearOne(rng), castPatterns(rng, 50_000)...)
	for _, w := range list {
		x := single.value(w)
		if math.IsNaN(x) || math.IsInf(x, 0) {
			continue
		}
		sum := new(big.Float).SetPrec(400).SetFloat64(x)
		want, _ := sum.Add(sum, big.NewFloat(1)).Float32()
		require.Equal(t, math.Float32bits(want), plusOne(x, single, single), "%x", x)
	}
	// the exact sum, rounded once to the type
	for _, of := range []dtype.DType{dtype.BF16, dtype.F16} {
		f := formatOf(of)
		for w := range uint32(1 << 16) {
			x := f.value(w)
			if math.IsNaN(x) || math.IsInf(x, 0) {
				continue
			}
			sum := new(big.Float).SetPrec(400).SetFloat64(x)
			sum.Add(sum, big.NewFloat(1))
			exact, accuracy := sum.Float64() // to odd, so that rounding it again equals rounding once
			if bits := math.Float64bits(exact); accuracy != big.Exact && bits&1 == 0 {
				exact = math.Nextafter(exact, math.Inf(-int(accuracy)))
			}
			require.Equal(t, f.round(exact), plusOne(x, f, f), "%s %x", of, x)
		}
	}
}

// The corpus must contain values that distinguish a sum that is rounded to its own type first from
// one that is not.
func TestPlusOneRoundsTwice(t *testing.T) {
	f16, bf16, f32 := formatOf(dtype.F16), formatOf(dtype.BF16), formatOf(dtype.F32)
	n := 0
	for w := range uint32(1 << 16) {
		if x := bf16.value(w); plusOne(x, bf16, f16) != plusOne(x, f32, f16) {
			n++
		}
	}
	require.Greater(t, n, 1000)
	n = 0
	for _, w := range nearOne(rand.New(rand.NewPCG(5, 5))) { // and one that passes through float32
		if x := f32.value(w); plusOne(x, f32, bf16) != bf16.round(x+1) {
			n++
		}
	}
	require.Greater(t, n, 500)
}
