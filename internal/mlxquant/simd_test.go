package mlxquant

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

// compareFast quantizes a row with vector code and without.
func compareFast(t testing.TB, q *Quantizer, w []float32) {
	t.Helper()
	size, groups := int(q.ScaleType(q.from).Size()), q.Groups(len(w))
	var out [2][3][]byte
	for i := range out {
		for k, n := range []int{q.RowBytes(len(w)), groups * size, groups * size} {
			out[i][k] = bytes.Repeat([]byte{0xA5}, n+32)
		}
	}
	bad := q.row(out[0][0][16:], out[0][1][16:], out[0][2][16:], w)
	got := q.fast(q, out[1][0][16:], out[1][1][16:], out[1][2][16:], w)
	if got != bad {
		t.Fatalf("%s %s %s: group %d is bad, want %d", q.Format, q.profile, q.from, got, bad)
	}
	for k, name := range []string{"codes", "scales", "biases"} {
		if bytes.Equal(out[0][k], out[1][k]) {
			continue
		}
		i := 0
		for out[0][k][i] == out[1][k][i] {
			i++
		}
		g := (i - 16) / size
		if k == 0 {
			g = (i - 16) / q.GroupBytes()
		}
		g = min(max(g, 0), groups-1)
		t.Fatalf("%s %s %s: %s %x, want %x at %d of %d groups, in group %d: %v", q.Format, q.profile, q.from, name, out[1][k][i], out[0][k][i], i-16, groups, g, w[g*q.GroupSize:(g+1)*q.GroupSize])
	}
}

// fastQuantizers yields every quantizer that has vector code here.
func fastQuantizers(t testing.TB) (list []*Quantizer) {
	for _, from := range floats {
		for _, f := range everyFormat() {
			for _, p := range []Profile{Metal, CPU} {
				q, err := New(f, p, from)
				require.NoError(t, err)
				if q.fast != nil {
					list = append(list, q)
				}
			}
		}
	}
	if len(list) == 0 {
		needtest.Skip(t, "simd", "no vector code on this machine")
	}
	return list
}

func TestSIMDGroups(t *testing.T) {
	r := rand.New(rand.NewPCG(11, 12))
	rounds := needtest.Rounds(8, 40)
	for _, q := range fastQuantizers(t) {
		for range rounds {
			w := make([]float32, (1+r.IntN(70))*q.GroupSize)
			makeGroups(r, w, q.GroupSize, q.from)
			if r.IntN(8) == 0 {
				w[r.IntN(len(w))] = []float32{float32(math.Inf(1)), float32(math.Inf(-1)), float32(math.NaN()), math.Float32frombits(0xFFC12345)}[r.IntN(4)]
			}
			compareFast(t, q, w)
		}
	}
}

// TestSIMDSweep quantizes every 16-bit value, each in a group with others.
func TestSIMDSweep(t *testing.T) {
	needtest.Alone(t)
	r := rand.New(rand.NewPCG(13, 14))
	for _, q := range fastQuantizers(t) {
		if q.from == dtype.F32 {
			continue
		}
		w := make([]float32, 1<<16)
		for i := range w {
			if w[i] = widen(q.from, uint32(i)); w[i]-w[i] != 0 {
				w[i] = 0
			}
		}
		compareFast(t, q, w)
		for i := 0; i < len(w); i += q.GroupSize { // neighbours that do not determine the scale
			w[i+r.IntN(q.GroupSize)] *= float32(r.IntN(64)) / 4
		}
		for i, x := range w {
			w[i] = toFinite(x, q.from)
		}
		compareFast(t, q, w)
		r.Shuffle(len(w), func(i, k int) { w[i], w[k] = w[k], w[i] })
		compareFast(t, q, w)
	}
}

// TestSIMDScales quantizes groups whose scales equal or neighbour powers of two and midpoints
// between two values of the source type. The elements are not of that type here.
func TestSIMDScales(t *testing.T) {
	needtest.Alone(t)
	r := rand.New(rand.NewPCG(17, 18))
	for _, q := range fastQuantizers(t) {
		most := float32(int(1)<<q.Bits - 1)
		if q.Mode != Affine {
			most = map[Mode]float32{MXFP4: 6, MXFP8: 448, NVFP4: 6}[q.Mode]
		}
		var w []float32
		for e := -149; e < 128; e++ {
			for _, s := range []float64{1, 257. / 256, 259. / 256, 2049. / 2048, 2051. / 2048, 1 + r.Float64()} {
				group := make([]float32, q.GroupSize)
				top := float32(math.Ldexp(s, e)) * most
				for i := range group {
					group[i] = top * r.Float32()
				}
				group[r.IntN(len(group))] = 0
				group[r.IntN(len(group))] = math.Float32frombits(math.Float32bits(top) + uint32(r.IntN(8)/7))
				if r.IntN(2) == 0 {
					for i := range group {
						group[i] = -group[i]
					}
				}
				w = append(w, group...)
			}
		}
		compareFast(t, q, w)
	}
}

func FuzzRow(f *testing.F) {
	for i := range uint16(200) {
		f.Add(i, uint8(i), bytes.Repeat([]byte{byte(i), 0x3C, 0x81, byte(40 + i), 0xBD, 0x3D}, 40))
	}
	f.Fuzz(func(t *testing.T, which uint16, groups uint8, raw []byte) {
		list := fastQuantizers(t)
		q := list[int(which)%len(list)]
		size := int(q.from.Size())
		if len(raw) < size {
			return
		}
		w := make([]float32, (1+int(groups%40))*q.GroupSize)
		Widen(w, slices.Repeat(raw, len(w)*size/len(raw)+1), q.from)
		compareFast(t, q, w)
	})
}

// TestSIMDWiden widens every value, in rows of any length.
func TestSIMDWiden(t *testing.T) {
	r := rand.New(rand.NewPCG(15, 16))
	for _, from := range []dtype.DType{dtype.BF16, dtype.F16} {
		for first := 0; first < 1<<16; {
			n := min(1+r.IntN(100), 1<<16-first)
			var src []byte
			for i := range n {
				src = little.AppendUint16(src, uint16(first+i))
			}
			dst := make([]float32, n+20)
			Widen(dst[:n], src, from)
			for i, x := range dst[:n] {
				if y := widen(from, uint32(first+i)); math.Float32bits(x) != math.Float32bits(y) && (x == x || y == y) {
					t.Fatalf("%s %#x: %v, want %v", from, first+i, x, y)
				}
			}
			require.Equal(t, make([]float32, 20), dst[n:])
			first += n
		}
	}
}
