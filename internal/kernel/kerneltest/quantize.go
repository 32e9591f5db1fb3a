package kerneltest

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/metalcast/metalcast/internal/dtype"
	"github.com/metalcast/metalcast/internal/kernel"
	"github.com/metalcast/metalcast/internal/mlxquant"
	"github.com/metalcast/metalcast/internal/needtest"
)

// formats lists every format that MLX has.
var formats = func() (list []mlxquant.Format) {
	for _, bits := range []int{4, 1, 2, 3, 5, 6, 8} {
		for _, group := range []int{64, 32, 128} {
			list = append(list, mlxquant.Format{Mode: mlxquant.Affine, Bits: bits, GroupSize: group})
		}
	}
	return append(list, mlxquant.MXFP4.Default(), mlxquant.MXFP8.Default(), mlxquant.NVFP4.Default())
}()

var profiles = []mlxquant.Profile{mlxquant.Metal, mlxquant.CPU}

// sources lists codes with scales of every type, and every other type.
var sources = []kernel.Params{
	{From: dtype.F8E4M3, ScaleType: dtype.BF16}, {From: dtype.BF16}, {From: dtype.F8E4M3, ScaleType: dtype.F32}, {From: dtype.F16},
	{From: dtype.F8E4M3, ScaleType: dtype.F16}, {From: dtype.F32}, {From: dtype.F8E4M3, ScaleType: dtype.F8E8M0},
}

// packing returns the Params for a source, a format, a profile and a type.
func packing(source kernel.Params, f mlxquant.Format, p mlxquant.Profile, to dtype.DType) kernel.Params {
	source.Op, source.Format, source.Profile, source.To = kernel.Quantize, f, p, to
	return source
}

// testFormats runs groups of every kind through every format, profile and type, from every source
// in turn.
func testFormats(t *testing.T, be kernel.Backend) {
	rig := NewRig(be)
	n := 0
	for _, f := range formats {
		for _, profile := range profiles {
			for _, to := range floats {
				rng := rand.New(rand.NewPCG(uint64(n), 1))
				w := NewWindow(uint64(n))
				for i, source := range sources {
					if sampled() && (n+i)%3 != 0 {
						continue
					}
					p := packing(source, f, profile, to)
					l := Layout{Rows: 2, Cols: f.GroupSize * len(kinds), Shift: n % 3, SrcGap: i % 2, DstGap: i % 3}
					if p.Scaled() {
						p.BlockRows, p.BlockCols = 1, f.GroupSize
						l.Rows, l.Cols = 3+n%14, 4*f.GroupSize
					}
					p.Transposed = (n+i)%4 == 0
					fillGroups(rng, &p, &l)
					w.Add(p, l)
				}
				n++
				rig.Check(t, w)
			}
		}
	}
}

// fillGroups turns a job of whole rows of groups into one of columns if it is transposed, and fills
// its source with groups of every kind.
func fillGroups(rng *rand.Rand, p *kernel.Params, l *Layout) {
	size := p.Format.GroupSize
	lines, length := l.Rows, l.Cols
	if p.Transposed {
		l.Rows, l.Cols = l.Cols, l.Rows
		p.BlockRows, p.BlockCols = p.BlockCols, p.BlockRows
	}
	from := int(p.From.Size())
	l.Codes = make([]byte, l.Rows*l.Cols*from)
	next := rng.IntN(len(kinds))
	for line := range lines {
		for g := 0; g < length; g += size {
			group := make([]uint32, size)
			if p.Scaled() {
				codeGroup(rng, group)
				l.Scales = append(l.Scales, groupScale(rng, p.ScaleType))
			} else {
				elements(rng, group, kinds[next%len(kinds)], p)
				next++
			}
			for i, bits := range group {
				at := line*length + g + i
				if p.Transposed {
					at = (g+i)*l.Cols + line
				}
				store(l.Codes[at*from:], bits, from)
			}
		}
	}
}

// testPackedTables quantizes all codes with all scales of 8 and 16 bits and with float32 scales of
// every kind, in MLX's default formats, and with samples in the others. Each row has all codes but
// NaN, in a different order.
func testPackedTables(t *testing.T, be kernel.Backend) {
	step, random := uint32(17), 500
	if sampled() {
		step, random = 509, 20
	}
	if nightly() {
		step, random = 1, 20_000
	}
	rig := NewRig(be)
	rng := rand.New(rand.NewPCG(31, 37))
	scales := map[dtype.DType][]uint32{
		dtype.BF16: all16(dtype.BF16, step), dtype.F16: all16(dtype.F16, step), dtype.F8E8M0: allE8M0(),
		dtype.F32: append(thin(edgeF32(rng), int(step)), randomF32(rng, random)...),
	}
	n := 0
	for _, f := range formats {
		for _, profile := range profiles {
			for _, st := range scaleTypes {
				p := packing(kernel.Params{From: dtype.F8E4M3, ScaleType: st, BlockRows: 1, BlockCols: 256}, f, profile, floats[n%3])
				list := scales[st]
				switch {
				case f != f.Mode.Default():
					list = thin(list, 23)
				case !needtest.Long():
					list = thin(list, 5)
				}
				n++
				for len(list) > 0 {
					rows := min(len(list), 512)
					l := Layout{Rows: rows, Cols: 256, Scales: list[:rows]}
					for range rows {
						for _, c := range rng.Perm(256) {
							l.Codes = append(l.Codes, sound(byte(c)))
						}
					}
					w := NewWindow(uint64(n))
					w.Add(p, l)
					rig.Check(t, w)
					list = list[rows:]
				}
			}
		}
	}
}

// thin returns every n-th element.
func thin(s []uint32, n int) (some []uint32) {
	for i := n / 2; i < len(s); i += n {
		some = append(some, s[i])
	}
	return some
}

// sound returns the code, or a different one for NaN.
func sound(c byte) byte {
	if c&0x7F == 0x7F {
		return c ^ 1
	}
	return c
}

// testTies runs groups whose elements are as near as their type allows to where the code changes,
// at a scale computed by the reference.
func testTies(t *testing.T, be kernel.Backend) {
	groups := 48
	if sampled() {
		groups = 8
	}
	rig := NewRig(be)
	n := uint64(0)
	for _, f := range formats {
		for _, profile := range profiles {
			for _, to := range []dtype.DType{dtype.F32, dtype.F32, dtype.BF16, dtype.F16} {
				n++
				rng := rand.New(rand.NewPCG(n, 41))
				p := packing(kernel.Params{From: to}, f, profile, to)
				l := Layout{Rows: groups, Cols: f.GroupSize}
				for range groups {
					for _, bits := range tieGroup(rng, newQuantizer(f, profile, to)) {
						l.Codes = append(l.Codes, make([]byte, to.Size())...)
						store(l.Codes[len(l.Codes)-int(to.Size()):], bits, int(to.Size()))
					}
				}
				w := NewWindow(n)
				w.Add(p, l)
				rig.Check(t, w)
			}
		}
	}
}

// tieGroup draws a group's extremes and places the other elements between two codes.
func tieGroup(rng *rand.Rand, q *quantizer) []uint32 {
	w := make([]float64, q.GroupSize)
	size := power(1, rng.IntN(24)-16)
	a, b := q.keep(size*rng.NormFloat64()), q.keep(size*rng.NormFloat64())
	for i := range w {
		w[i] = a
	}
	w[0] = b
	var between func() float64
	switch q.Mode {
	case mlxquant.Affine:
		s, origin := q.affineScale(w)
		between = func() float64 { return origin + s*(float64(rng.IntN(int(q.most())+1))+0.5) }
	default:
		unit := codes[nearestE4M3(q.ratio(w, 6))]
		if q.Mode != mlxquant.NVFP4 {
			unit = power(1, q.mxExponent(w))
		}
		between = func() float64 {
			c := rng.IntN(7)
			v := (e2m1[c] + e2m1[c+1]) / 2
			if q.Mode == mlxquant.MXFP8 {
				c = rng.IntN(126)
				v = (codes[c] + codes[c+1]) / 2
			}
			return math.Copysign(v*unit, rng.Float64()-0.5)
		}
	}
	lo, hi := min(a, b), max(a, b)
	if q.Mode != mlxquant.Affine {
		hi = max(math.Abs(a), math.Abs(b))
		lo = -hi
	}
	bits := make([]uint32, len(w))
	bits[0], bits[1] = q.to.round(b), q.to.round(a)
	for i := 2; i < len(bits); i++ {
		v := q.to.round(between()) + uint32(rng.IntN(5)) - 2 // neighbours
		if x := q.to.value(v); x < lo || x > hi || math.IsNaN(x) {
			v = bits[rng.IntN(2)]
		}
		bits[i] = v
	}
	return bits
}

// testPackedShapes runs jobs around the sizes of tiles, groups and blocks: blocks that end inside
// groups, begin before the job or are thin, groups down columns, parts of rows, many jobs in a
// window.
func testPackedShapes(t *testing.T, be kernel.Backend) {
	rig := NewRig(be)
	n := 0
	for _, block := range [][2]int{{128, 128}, {1, math.MaxInt32}, {math.MaxInt32, math.MaxInt32}, {1, 1}, {32, 32}, {3, 5}, {1, 32}, {50, 100}, {128, 1}, {math.MaxInt32, 1}} {
		for _, turned := range []bool{false, true} {
			for _, phase := range [][2]int{{0, 0}, {block[0] / 2, block[1] / 3}, {block[0] - 1, block[1] - 1}} {
				n++
				f := formats[n*5%len(formats)]
				p := packing(kernel.Params{From: dtype.F8E4M3, ScaleType: scaleTypes[n%4], BlockRows: block[0], BlockCols: block[1], Transposed: turned}, f, profiles[n%2], floats[n%3])
				w := NewWindow(uint64(n))
				// lines, groups of a line
				for i, size := range [][2]int{{1, 1}, {3, 2}, {17, 5}, {131, 1}, {2, 70}} {
					if sampled() && (n+i)%4 != 0 {
						continue
					}
					l := Layout{Rows: size[0], Cols: size[1] * f.GroupSize, RowPhase: phase[0], ColPhase: phase[1], Shift: (n + i) % 5, SrcGap: n % 4, DstGap: i, ScaleGap: n % 2}
					if turned {
						l.Rows, l.Cols = l.Cols, l.Rows
					}
					l.Codes = soundCodes(w.rng, l.Rows*l.Cols)
					w.Add(p, l)
				}
				if len(w.Batches) > 0 {
					rig.Check(t, w)
				}
			}
		}
	}
	windows := uint64(60)
	if sampled() {
		windows = 12
	}
	for seed := range windows {
		rng := rand.New(rand.NewPCG(seed, 43))
		w := NewWindow(seed)
		for range 1 + rng.IntN(8) {
			w.Add(randomPacked(rng))
		}
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) { rig.Check(t, w) })
	}
}

func soundCodes(rng *rand.Rand, n int) []byte {
	c := make([]byte, n)
	for i := range c {
		c[i] = sound(byte(rng.Uint32()))
	}
	return c
}

// randomPacked draws a job that quantizes.
func randomPacked(rng *rand.Rand) (kernel.Params, Layout) {
	f := formats[rng.IntN(len(formats))]
	p := packing(sources[rng.IntN(len(sources))], f, profiles[rng.IntN(2)], floats[rng.IntN(3)])
	p.Transposed = rng.IntN(3) == 0
	l := Layout{
		Rows: 1 + rng.IntN(1<<rng.IntN(6)), Cols: (1 + rng.IntN(1<<rng.IntN(4))) * f.GroupSize, Shift: rng.IntN(9),
		SrcGap: rng.IntN(4), DstGap: rng.IntN(4), ScaleGap: rng.IntN(3), NewBatch: rng.IntN(3) == 0,
	}
	if !p.Scaled() {
		fillGroups(rng, &p, &l)
		return p, l
	}
	if p.Transposed {
		l.Rows, l.Cols = l.Cols, l.Rows
	}
	side := func() int { return []int{1, 2, 3, 16, 32, 100, 128, 1000, math.MaxInt32}[rng.IntN(9)] }
	p.BlockRows, p.BlockCols = side(), side()
	l.RowPhase, l.ColPhase = rng.IntN(p.BlockRows), rng.IntN(p.BlockCols)
	if rng.IntN(4) > 0 {
		l.Codes = soundCodes(rng, l.Rows*l.Cols)
	}
	if rng.IntN(4) == 0 {
		for range 1 + rng.IntN(40) {
			l.Scales = append(l.Scales, groupScale(rng, p.ScaleType))
		}
	}
	return p, l
}
