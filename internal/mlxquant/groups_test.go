package mlxquant

import (
	"math"
	"math/rand/v2"

	"github.com/metalcast/metalcast/internal/dtype"
)

// A maker fills a run of elements, of any length, with values that are meant for one group. They
// are rounded to the source type later.
type maker func(r *rand.Rand, w []float32, t dtype.DType)

var makers = map[string]maker{
	"weights": func(r *rand.Rand, w []float32, _ dtype.DType) { gauss(r, w, 0.02) },
	"any scale": func(r *rand.Rand, w []float32, t dtype.DType) {
		gauss(r, w, math.Exp2(float64(r.IntN(2*maxExponent(t))-maxExponent(t))-r.Float64()-2))
	},
	"outlier": func(r *rand.Rand, w []float32, _ dtype.DType) {
		gauss(r, w, 0.01)
		w[r.IntN(len(w))] *= float32(1 + r.IntN(100))
	},
	"bits": func(r *rand.Rand, w []float32, _ dtype.DType) {
		for i := range w {
			w[i] = math.Float32frombits(r.Uint32())
		}
	},
	"zeros": func(r *rand.Rand, w []float32, _ dtype.DType) {
		for i := range w {
			w[i] = float32(math.Copysign(0, r.Float64()-0.5))
		}
	},
	"zeros and one": func(r *rand.Rand, w []float32, _ dtype.DType) {
		for i := range w {
			w[i] = float32(math.Copysign(0, r.Float64()-0.5))
		}
		w[r.IntN(len(w))] = float32(r.NormFloat64())
	},
	"equal": func(r *rand.Rand, w []float32, t dtype.DType) {
		gauss(r, w[:1], math.Exp2(float64(r.IntN(2*maxExponent(t))-maxExponent(t))))
		for i := range w {
			w[i] = w[0]
		}
	},
	"two values": func(r *rand.Rand, w []float32, _ dtype.DType) {
		a, b := float32(r.NormFloat64()), float32(r.NormFloat64())
		for i := range w {
			w[i] = a
			if r.IntN(2) == 0 {
				w[i] = b
			}
		}
	},
	"subnormal": func(r *rand.Rand, w []float32, t dtype.DType) {
		unit, most := math.Exp2(-133), 300
		if t == dtype.F16 {
			unit = math.Exp2(-24)
		}
		if t == dtype.F32 {
			unit, most = math.Exp2(-149), 1<<r.IntN(25)
		}
		for i := range w {
			w[i] = float32(float64(r.IntN(2*most+1)-most) * unit)
		}
	},
	"one sign": func(r *rand.Rand, w []float32, _ dtype.DType) {
		sign := float32(math.Copysign(1, r.Float64()-0.5))
		gauss(r, w, 0.1)
		offset := float32(r.IntN(3)) * r.Float32()
		for i := range w {
			w[i] = sign * (abs(w[i]) + offset)
		}
	},
	"close": func(r *rand.Rand, w []float32, _ dtype.DType) {
		gauss(r, w, math.Exp2(-4-float64(r.IntN(12))))
		c := float32(r.NormFloat64())
		for i := range w {
			w[i] += c
		}
	},
	"huge": func(r *rand.Rand, w []float32, t dtype.DType) {
		m := maxFinite(t) / float32(int(1)<<r.IntN(12))
		for i := range w {
			w[i] = m * (2*r.Float32() - 1)
		}
		w[r.IntN(len(w))] = m
	},
	"epsilon": func(r *rand.Rand, w []float32, _ dtype.DType) { gauss(r, w, 1e-7*math.Exp2(r.Float64()*14-6)) },
	// many quotients of affine elements are ties
	"halves of codes": func(r *rand.Rand, w []float32, _ dtype.DType) {
		n := float32([]int{1, 3, 7, 15, 31, 63, 255}[r.IntN(7)])
		unit := float32(math.Exp2(float64(r.IntN(12) - 12)))
		zero := float32(r.IntN(int(n) + 1))
		for i := range w {
			w[i] = (float32(r.IntN(2*int(n)+1))/2 - zero) * unit
		}
		w[0], w[len(w)-1] = -zero*unit, (n-zero)*unit
	},
	"halves of fp": func(r *rand.Rand, w []float32, _ dtype.DType) { // of fp4 and fp8 elements
		unit := float32(math.Exp2(float64(r.IntN(20) - 16)))
		for i := range w {
			if w[i] = halve[r.IntN(7)]; r.IntN(3) == 0 {
				w[i] = (e4m3[r.IntN(126)] + e4m3[r.IntN(126)]) / 2 / 64
			}
			w[i] *= unit * float32(1-2*r.IntN(2))
		}
		w[0] = 6 * unit
	},
	"neighbours": func(r *rand.Rand, w []float32, t dtype.DType) { // consecutive values
		b := r.Uint32()
		step := map[dtype.DType]uint32{dtype.BF16: 1 << 16, dtype.F16: 1 << 13, dtype.F32: 1}[t]
		if t == dtype.F16 {
			b = b&0x80000000 | (0x33800000 + b%0x13000000)
		}
		for i := range w {
			w[i] = math.Float32frombits(b + uint32(i)*step)
		}
	},
	// values like those that this program reads
	"fp8": func(r *rand.Rand, w []float32, _ dtype.DType) {
		s := float32(math.Exp2(-8 - 4*r.Float64()))
		if r.IntN(2) == 0 {
			s = float32(math.Exp2(float64(-8 - r.IntN(5))))
		}
		for i := range w {
			c := r.Uint32N(127) | r.Uint32N(2)<<7
			w[i] = e4m3[c] * s
		}
	},
}

func gauss(r *rand.Rand, w []float32, sd float64) {
	for i := range w {
		w[i] = float32(r.NormFloat64() * sd)
	}
}

func maxExponent(t dtype.DType) int {
	if t == dtype.F16 {
		return 15
	}
	return 126
}

func maxFinite(t dtype.DType) float32 {
	switch t {
	case dtype.F16:
		return 65504
	case dtype.BF16:
		return math.Float32frombits(0x7F7F0000)
	}
	return math.MaxFloat32
}

// makeGroups fills w run by run, with the makers in turn, with finite values of the type.
func makeGroups(r *rand.Rand, w []float32, run int, t dtype.DType) {
	names := sortedNames()
	for i := 0; i < len(w); i += run {
		g := w[i : i+run]
		makers[names[i/run%len(names)]](r, g, t)
		for k, x := range g {
			g[k] = toFinite(x, t)
		}
	}
}

// toFinite rounds to a finite value of the type.
func toFinite(x float32, t dtype.DType) float32 {
	most := maxFinite(t)
	switch {
	case x != x:
		return most / 3
	case x > most:
		x = most
	case x < -most:
		x = -most
	}
	if y := widen(t, narrow(t, x)); abs(y) <= most {
		return y
	}
	return float32(math.Copysign(float64(most), float64(x)))
}
