package kerneltest

import (
	"math"
	"math/big"
	"math/rand/v2"
	"testing"

	"github.com/metalcast/metalcast/internal/dtype"
	"github.com/stretchr/testify/require"
)

// The reference's own arithmetic, against math/big and values from the standards.
func TestRound(t *testing.T) {
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
	for w := range uint32(1 << 16) { // the values that a format has are fixed points
		for _, f := range []format{f16, bf16} {
			if v := f.value(w); !math.IsNaN(v) {
				require.Equal(t, w, f.round(v))
			}
		}
	}
}

// The corpus must hold what tells one rounding from two.
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
