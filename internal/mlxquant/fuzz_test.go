package mlxquant

import (
	"bytes"
	"math"
	"slices"
	"testing"

	"github.com/metalcast/metalcast/internal/dtype"
	"github.com/stretchr/testify/require"
)

func signbit(x float32) bool { return math.Float32bits(x)>>31 != 0 }

// FuzzGroup quantizes groups of arbitrary bits and checks that nothing outside is written, refusals
// have a reason and write zeros, codes survive packing, a row equals its groups, and the values
// come back as accurately as the format allows.
func FuzzGroup(f *testing.F) {
	formats := everyFormat()
	for i := range 6 * len(formats) {
		f.Add(uint8(i), uint8(i/len(formats)), bytes.Repeat([]byte{byte(i), 0x3C, 0x81, byte(40 + i), 0xBD, 0x3D}, 40))
	}
	f.Add(uint8(7), uint8(0), []byte{0x80, 0x7F}) // infinity
	f.Add(uint8(0), uint8(2), []byte{0, 0, 0xC0, 0x7F})
	f.Fuzz(func(t *testing.T, format, kind uint8, raw []byte) {
		from, p, form := floats[kind%3], Profile(kind/3%2), formats[int(format)%len(formats)]
		q, err := New(form, p, from)
		require.NoError(t, err)
		size := int(from.Size())
		if len(raw) < size {
			return
		}
		raw = slices.Repeat(raw, form.GroupSize*size/len(raw)+1)
		w := make([]float32, form.GroupSize)
		Widen(w, raw, from)

		n := q.GroupBytes()
		codes := bytes.Repeat([]byte{0xA5}, n+9)
		scale, bias, finite := q.Group(codes, w)
		require.Equal(t, bytes.Repeat([]byte{0xA5}, 9), codes[n:])
		codes = codes[:n]
		wellFormed := !slices.ContainsFunc(w, func(x float32) bool { return x-x != 0 })
		if !finite {
			require.Equal(t, make([]byte, n), codes)
			require.Zero(t, scale|bias)
			overflow := form.Mode == Affine && float64(slices.Max(w))-float64(slices.Min(w)) > float64(maxFinite(from))/2
			require.True(t, !wellFormed || overflow, "%v refused", w)
			return
		}
		require.True(t, wellFormed)

		var unpacked, again [mostGroup]byte
		unpack(&unpacked, codes, uint(form.Bits))
		repacked := make([]byte, n)
		pack(repacked, &unpacked, uint(form.Bits))
		require.Equal(t, codes, repacked)
		unpack(&again, repacked, uint(form.Bits))
		require.Equal(t, unpacked, again)

		checkRow(t, q, w, codes, scale, bias)
		for i, x := range w {
			got, bound := q.value(unpacked[i], scale, bias), q.bound(scale, x, w)
			if math.IsInf(bound, 1) { // the scale of the CPU's tiny groups wraps, even to infinity
				continue
			}
			require.LessOrEqual(t, math.Abs(got-float64(x)), bound, "%s %s %s: %v: element %d is %v, scale %#x", form, p, from, w, i, got, scale)
		}
	})
}

// checkRow quantizes a row that consists of the group twice.
func checkRow(t *testing.T, q *Quantizer, w []float32, codes []byte, scale, bias uint32) {
	size := int(q.ScaleType(q.From()).Size())
	row := make([]byte, 2*len(codes))
	scales, biases := make([]byte, 2*size), make([]byte, 2*size)
	require.Equal(t, -1, q.Row(row, scales, biases, slices.Concat(w, w)))
	require.Equal(t, slices.Concat(codes, codes), row)
	one := make([]byte, size)
	put(one, size, scale)
	require.Equal(t, slices.Concat(one, one), scales)
	put(one, size, bias)
	require.Equal(t, slices.Concat(one, one), biases)
}

// value returns what a code stands for, exactly or nearly so.
func (q *Quantizer) value(code byte, scale, bias uint32) float64 {
	if q.Mode == Affine {
		return float64(code)*float64(widen(q.from, scale)) + float64(widen(q.from, bias))
	}
	return float64(q.element(code)) * float64(q.scale(byte(scale)))
}

// bound returns how far a value may be from x.
func (q *Quantizer) bound(scale uint32, x float32, w []float32) float64 {
	amax, _ := magnitude(w)
	switch q.Mode {
	case Affine:
		// The far end may be clamped by up to one step; the scale is narrowed, and its error counts n
		// times.
		s, n := math.Abs(float64(widen(q.from, scale))), math.Exp2(float64(q.Bits))
		digits := map[dtype.DType]float64{dtype.BF16: 8, dtype.F16: 11, dtype.F32: 22}[q.from]
		return s*(1+n*math.Exp2(-digits)+n*math.Exp2(-20)) + n*math.Exp2(-25)*map[bool]float64{q.from == dtype.F16: 1}[true]
	case NVFP4:
		s := float64(e4m3[scale])
		if scale < 8 || scale == 0x7E { // subnormal or saturated
			return float64(amax)
		}
		return s * 1.0001
	}
	if s := float64(q.scale(byte(scale))); amax > 1e-34 && (q.from != dtype.F16 || q.profile == Metal || amax > 0.03) {
		if q.Mode == MXFP4 {
			return s
		}
		return max(s*math.Exp2(-10), math.Abs(float64(x))/16)
	}
	return math.Inf(1) // if float16 or float32 is subnormal, the CPU's scale can be anything
}
