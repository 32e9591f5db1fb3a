package cpufallback

import (
	"bytes"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/metalcast/metalcast/internal/dtype"
	"github.com/metalcast/metalcast/internal/needtest"
	"github.com/stretchr/testify/require"
)

// eachFast runs a test on all that this machine has besides scalarRows.
func eachFast(t *testing.T, test func(t *testing.T, r rows)) {
	if len(fastRows()) == 0 {
		needtest.Skip(t, "simd", "no vector rows on this machine")
	}
	for _, r := range fastRows() {
		t.Run(r.name, func(t *testing.T) { test(t, r.rows) })
	}
}

// compareRows sends codes with a scale for each block through the rows and scalarRows, the results at any place.
func compareRows(t testing.TB, r rows, src []byte, scales []float32, head, width, at int, stream bool) {
	t.Helper()
	n := len(scales)
	for _, to := range []dtype.DType{dtype.BF16, dtype.F16, dtype.F32} {
		size := int(to.Size())
		out := func() []byte { return bytes.Repeat([]byte{0xA5}, size*(at+len(src))+70) }
		want, got, product := out(), out(), out()
		at, end := size*at, size*(at+len(src))
		var nan, found bool
		if size == 2 {
			nan, found = compareTables(t, r.fill16, fill, r.row16, row16, got[at:end], want[at:end], src, scales, head, width, to, stream)
		} else {
			nan, found = compareTables(t, r.fill32, fill, r.row32, row32, got[at:end], want[at:end], src, scales, head, width, to, stream)
		}
		inf, nan2 := multiplyRow(want[at:end], src, scales, head, width, to)
		inf3, nan3 := r.multiply(product[at:end], src, scales, head, width, to)
		if nan != found || nan != nan2 || nan != nan3 || inf != inf3 {
			t.Fatalf("%s, head %d, width %d, %d codes, scales %x: NaN %t %t %t %t, infinite %t %t", to, head, width, len(src), scales, nan, found, nan2, nan3, inf, inf3)
		}
		for _, got := range [][]byte{got, product} {
			if i := firstDifference(got, want); i >= 0 {
				t.Fatalf("%s, head %d, width %d, %d codes, %d scales: byte %d of %d to %d is %#x, want %#x", to, head, width, len(src), n, i, at, end, got[i], want[i])
			}
		}
	}
	r.fence()
}

func compareTables[T result](t testing.TB, fill, fillWant fillFunc[T], row, rowWant rowFunc[T], got, want, src []byte, scales []float32, head, width int, to dtype.DType, stream bool) (nan, found bool) {
	tables, wanted := make([]table[T], len(scales)), make([]table[T], len(scales))
	for i, s := range scales {
		if a, b := fill(&tables[i], s, to), fillWant(&wanted[i], s, to); a != b {
			t.Fatalf("%s, scale %x: overflow from %d, want %d", to, math.Float32bits(s), a, b)
		}
	}
	return row(got, src, tables, head, width, stream), rowWant(want, src, wanted, head, width, stream)
}

func firstDifference(a, b []byte) int {
	if bytes.Equal(a, b) {
		return -1
	}
	i := 0
	for a[i] == b[i] {
		i++
	}
	return i
}

// TestSIMDCodes has every code by every scale in bfloat16, and by many others.
func TestSIMDCodes(t *testing.T) {
	needtest.Alone(t)
	eachFast(t, testSIMDCodes)
}

func testSIMDCodes(t *testing.T, r rows) {
	const some = 64
	codes, sound := make([]byte, some*256), make([]byte, some*256) // sound: without NaN, for which a row may be computed otherwise
	for i := range codes {
		codes[i], sound[i] = byte(i), byte(i)
		if i&127 == 127 {
			sound[i] = byte(i - 1)
		}
	}
	rng := rand.New(rand.NewPCG(8, 8))
	scales := make([]float32, some)
	for first := 0; first < 1<<16; first += some * needtest.Rounds(9, 1) {
		for i := range scales {
			scales[i] = math.Float32frombits(uint32(first+i) << 16)
		}
		compareRows(t, r, codes, scales, 256, 256, 0, first&some != 0)
		compareRows(t, r, sound, scales, 256, 256, 0, first&some != 0)
		if first/some%4 != 0 {
			continue
		}
		for i := range scales {
			scales[i] = math.Float32frombits(uint32(first+i)<<16 | rng.Uint32()>>16)
		}
		compareRows(t, r, sound, scales, 256, 256, 0, first&some != 0)
	}
}

// TestSIMDShapes has blocks and rows of any length.
func TestSIMDShapes(t *testing.T) {
	needtest.Alone(t)
	eachFast(t, testSIMDShapes)
}

func testSIMDShapes(t *testing.T, r rows) {
	rng := rand.New(rand.NewPCG(9, 9))
	for range needtest.Rounds(1000, 3000) {
		width := 1 + rng.IntN(1+rng.IntN(300))
		n := 1 + rng.IntN(1+rng.IntN(2000))
		head := 1 + rng.IntN(width)
		if rng.IntN(3) == 0 { // as most are
			width = 32 << rng.IntN(4)
			head = width
		}
		src := make([]byte, n)
		for i := range src {
			src[i] = byte(rng.Uint32())
			if rng.IntN(4) > 0 && src[i]&127 == 127 {
				src[i]--
			}
		}
		if rng.IntN(2) == 0 {
			for i := range src {
				src[i] &^= 1 // no NaN
			}
		}
		scales := make([]float32, 1+(max(n-head, 0)+width-1)/width)
		for i := range scales {
			scales[i] = math.Float32frombits(rng.Uint32N(0x08000000) + 0x36000000)
			if rng.IntN(20) == 0 {
				scales[i] = math.Float32frombits(rng.Uint32())
			}
			if rng.IntN(50) == 0 {
				scales[i] = float32(math.Inf(1 - 2*rng.IntN(2)))
			}
		}
		compareRows(t, r, src, scales, head, width, rng.IntN(40), rng.IntN(2) == 0)
	}
	require.False(t, r.row16(nil, nil, nil, 1, 1, true))
}

func FuzzRows(f *testing.F) {
	f.Add([]byte{0, 0x7F, 0x80, 0xFF, 0x38}, uint32(0x38D1B717), uint16(3), uint16(1), uint16(130), uint8(0))
	f.Add([]byte{1, 2, 3}, uint32(0x7F800000), uint16(16), uint16(16), uint16(200), uint8(3))
	f.Fuzz(func(t *testing.T, raw []byte, scale uint32, head, width, n uint16, at uint8) {
		if len(raw) == 0 {
			return
		}
		w := 1 + int(width%512)
		h := 1 + int(head)%w
		src := slices.Repeat(raw, 2048/len(raw)+1)[:1+n%2048]
		scales := make([]float32, 1+(max(len(src)-h, 0)+w-1)/w)
		for i := range scales {
			scales[i] = math.Float32frombits(scale + uint32(i)*0x9E3779B9)
		}
		for _, r := range fastRows() {
			compareRows(t, r.rows, src, scales, h, w, int(at%64), n%2 == 0)
		}
	})
}

// TestSIMDCast has every element of 16 bits, and many of 32: those next to where rounding turns, and any.
func TestSIMDCast(t *testing.T) {
	needtest.Alone(t)
	eachFast(t, testSIMDCast)
}

func testSIMDCast(t *testing.T, r rows) {
	rng := rand.New(rand.NewPCG(10, 10))
	var halves, wholes []byte
	for i := range 1 << 16 {
		halves = little.AppendUint16(halves, uint16(i))
		for _, low := range []uint32{0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF, rng.Uint32() & 0xFFFF} {
			wholes = little.AppendUint32(wholes, uint32(i)<<16|low)
		}
		for _, low := range []uint32{0xFFF, 0x1000, 0x1001, 0x2000, 0x3000} { // float16's
			wholes = little.AppendUint32(wholes, uint32(i)<<16|low)
		}
	}
	for _, from := range []dtype.DType{dtype.BF16, dtype.F16, dtype.F32} {
		size := int(from.Size())
		for _, to := range []dtype.DType{dtype.BF16, dtype.F16, dtype.F32} {
			all := halves
			if from == dtype.F32 {
				all = wholes
			}
			for n := 1; len(all) > 0; n = 1 + rng.IntN(100) {
				src := all[:min(n*size, len(all))]
				dst := bytes.Repeat([]byte{0xA5}, 500)
				want := bytes.Clone(dst)
				if a, b := r.cast(dst[8:], src, from, to), castRow(want[8:], src, from, to); a != b || !bytes.Equal(dst, want) {
					t.Fatalf("%s to %s: %x: %x, want %x, overflow %t, want %t", from, to, src, dst, want, a, b)
				}
				all = all[len(src):]
			}
		}
	}
}
