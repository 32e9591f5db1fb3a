package mlxquant

import (
	"math"
	"testing"

	"github.com/metalcast/metalcast/internal/dtype"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestCheck(t *testing.T) {
	require.Len(t, everyFormat(), 24)
	for _, f := range everyFormat() {
		require.NoError(t, f.Check())
		require.Zero(t, f.GroupBytes()%4)
	}
	for f, want := range map[Format]string{
		{Affine, 7, 64}:  "affine: 7 bits, MLX has 1, 2, 3, 4, 5, 6 and 8",
		{Affine, 0, 64}:  "affine: 0 bits, MLX has 1, 2, 3, 4, 5, 6 and 8",
		{Affine, 4, 16}:  "affine: group size 16, MLX has 32, 64 and 128",
		{MXFP4, 8, 32}:   "mxfp4: 8 bits, MLX has 4",
		{MXFP8, 8, 64}:   "mxfp8: group size 64, MLX has 32",
		{NVFP4, 4, 32}:   "nvfp4: group size 32, MLX has 16",
		{Mode(9), 4, 32}: "Mode(9): no such mode",
	} {
		assert.EqualError(t, f.Check(), want)
		_, err := New(f, Metal, dtype.BF16)
		assert.EqualError(t, err, want)
	}
	require.EqualError(t, Format{Affine, 4, 64}.CheckRow(96), "affine 4/64: rows of 96 elements, not a multiple of the group size")
	require.NoError(t, Format{Affine, 4, 64}.CheckRow(0))
	_, err := New(Affine.Default(), Metal, dtype.F8E4M3)
	require.EqualError(t, err, "affine 4/64: elements of type F8_E4M3, MLX quantizes BF16, F16 and F32")
}

func TestSizes(t *testing.T) {
	for f, want := range map[Format][2]int{
		{Affine, 4, 64}: {1280, 40}, {Affine, 3, 32}: {960, 80}, {Affine, 6, 128}: {1920, 20}, {MXFP8, 8, 32}: {2560, 80}, {NVFP4, 4, 16}: {1280, 160},
	} {
		assert.Equal(t, want, [2]int{f.RowBytes(2560), f.Groups(2560)}, f)
	}
	assert.Equal(t, dtype.F16, Affine.Default().ScaleType(dtype.F16))
	assert.Equal(t, dtype.BF16, Affine.Default().BiasType(dtype.BF16))
	assert.Equal(t, dtype.U8, NVFP4.Default().ScaleType(dtype.F16))
	assert.Equal(t, dtype.Invalid, MXFP4.Default().BiasType(dtype.F16))
	for name, want := range map[string]Format{"affine": {Affine, 4, 64}, "mxfp4": {MXFP4, 4, 32}, "mxfp8": {MXFP8, 8, 32}, "nvfp4": {NVFP4, 4, 16}} {
		m, ok := ParseMode(name)
		assert.True(t, ok)
		assert.Equal(t, want, m.Default())
		assert.Equal(t, name, m.String())
	}
	_, ok := ParseMode("int4")
	assert.False(t, ok)
}

// TestNotFinite plants infinities and NaNs of either sign at every position.
func TestNotFinite(t *testing.T) {
	inf := float32(math.Inf(1))
	for _, f := range everyFormat() {
		for _, p := range []Profile{Metal, CPU} {
			q, err := New(f, p, dtype.BF16)
			require.NoError(t, err)
			for _, x := range []float32{inf, -inf, math.Float32frombits(0x7FC00000), math.Float32frombits(0xFFC00000)} {
				for i := range f.GroupSize {
					w := make([]float32, 3*f.GroupSize)
					w[f.GroupSize+i] = x
					codes, scales, biases := make([]byte, f.RowBytes(len(w))), make([]byte, 6), make([]byte, 6)
					require.Equal(t, 1, q.Row(codes, scales, biases, w))
				}
			}
		}
	}
}

func TestNoAllocation(t *testing.T) {
	w := make([]float32, 256)
	for i := range w {
		w[i] = float32(i%13) - 6
	}
	for _, f := range everyFormat() {
		q, err := New(f, CPU, dtype.F16)
		require.NoError(t, err)
		codes, scales, biases := make([]byte, f.RowBytes(len(w))), make([]byte, 32), make([]byte, 32)
		dst := make([]float32, len(w))
		require.Zero(t, testing.AllocsPerRun(10, func() {
			q.Row(codes, scales, biases, w)
			f.Dequantize(dst, codes, scales, biases, dtype.F16)
		}), f)
	}
}

// TestE4M3 rounds every float32 that equals or neighbours a value or the midpoint between two, and
// some of every exponent.
func TestE4M3(t *testing.T) {
	check := func(bits uint32) {
		v := math.Float32frombits(bits)
		best := byte(0)
		for c := byte(1); c < 127; c++ {
			d, least := math.Abs(float64(v)-float64(e4m3[c])), math.Abs(float64(v)-float64(e4m3[best]))
			if d < least || d == least && c%2 == 0 {
				best = c
			}
		}
		require.Equal(t, best, toE4M3(v), v)
		require.Equal(t, best|0x80, toE4M3(-v), v)
	}
	for c := range 126 {
		for _, v := range []float32{e4m3[c], (e4m3[c] + e4m3[c+1]) / 2} {
			b := math.Float32bits(v)
			for _, b := range []uint32{max(b, 1) - 1, b, b + 1} {
				check(b)
			}
		}
	}
	for b := uint32(0); b < infinity; b += 0x12345 {
		check(b)
	}
	check(math.Float32bits(math.MaxFloat32))
}
