package kerneltest

import (
	"math"

	"github.com/metalcast/metalcast/internal/dtype"
	"github.com/metalcast/metalcast/internal/mlxquant"
)

// quantizer is MLX's arithmetic from its definition, in float64: every operation is one of float32,
// and its exact result, or the one rounded to float64's 53 bits, rounds to the same 24 bits.
// Package mlxquant's documentation says what decides a bit; none of its code is used.
type quantizer struct {
	mlxquant.Format
	cpu bool
	to  format
}

func newQuantizer(f mlxquant.Format, p mlxquant.Profile, to dtype.DType) *quantizer {
	return &quantizer{f, p == mlxquant.CPU, formatOf(to)}
}

// packed is a group's result: a code for each element, and the bits of scale and bias.
type packed struct {
	codes       []byte
	scale, bias uint32
	finite      bool // the elements and the scale
}

func f32(v float64) float64                 { return formatOf(dtype.F32).value(formatOf(dtype.F32).round(v)) }
func (q *quantizer) keep(v float64) float64 { return q.to.value(q.to.round(v)) }

func (q *quantizer) group(w []float64) packed {
	g := packed{codes: make([]byte, len(w))}
	for _, x := range w {
		if math.IsInf(x, 0) || math.IsNaN(x) {
			return g
		}
	}
	g.finite = true
	switch q.Mode {
	case mlxquant.Affine:
		q.affine(&g, w)
	case mlxquant.NVFP4:
		q.nv(&g, w)
	default:
		q.mx(&g, w)
	}
	if !g.finite {
		return packed{codes: make([]byte, len(w))}
	}
	return g
}

// integer rounds, with ties by the profile's rule.
func (q *quantizer) integer(v float64) float64 {
	if q.cpu {
		return math.RoundToEven(v)
	}
	return math.Round(v)
}

// affineScale returns the scale, before it is narrowed, and the bias.
func (q *quantizer) affineScale(w []float64) (s, b float64) {
	lo, hi := w[0], 0.0
	if q.cpu {
		hi = w[0]
	}
	for _, x := range w {
		if x < lo {
			lo = x
		}
		if x > hi {
			hi = x
		}
	}
	least := formatOf(dtype.F32).value(0x33D6BF95)
	if q.Bits == 1 {
		return math.Max(f32(hi-lo), least), lo
	}
	s = math.Max(f32(f32(hi-lo)/q.most()), least)
	edge := lo
	if math.Abs(lo) <= math.Abs(hi) {
		s, edge = -s, hi
	}
	if n := q.integer(f32(edge / s)); n != 0 {
		return f32(edge / n), edge
	}
	return s, 0
}

func (q *quantizer) most() float64 { return float64(int(1)<<q.Bits - 1) }

func (q *quantizer) affine(g *packed, w []float64) {
	s, b := q.affineScale(w)
	g.scale, g.bias = q.to.round(s), q.to.round(b)
	if q.to.isInf(g.scale) {
		g.finite = false
		return
	}
	for i, x := range w {
		if s != 0 {
			g.codes[i] = byte(min(max(q.integer(f32(f32(x-b)/s)), 0), q.most()))
		}
	}
}

// ratio returns the greatest magnitude as a multiple of the format's greatest element.
func (q *quantizer) ratio(w []float64, most float64) (r float64) {
	for _, x := range w {
		r = math.Max(r, math.Abs(x))
	}
	if r = f32(r / most); q.cpu {
		r = q.keep(r)
	}
	return r
}

// mxExponent returns the scale's exponent.
func (q *quantizer) mxExponent(w []float64) int {
	most := 6.0
	if q.Mode == mlxquant.MXFP8 {
		most = 448
	}
	r := q.ratio(w, most)
	switch {
	case r == 0 && q.cpu:
		return 0
	case r == 0:
		return -127
	}
	half, e := math.Frexp(r)
	if half == 0.5 {
		e--
	}
	if !q.cpu {
		e = max(e, -127)
	}
	return e
}

func (q *quantizer) mx(g *packed, w []float64) {
	e := q.mxExponent(w)
	g.scale = uint32(e+127) & 255
	for i, x := range w {
		if q.cpu {
			g.codes[i] = q.element(q.keep(f32(x / power(1, e))))
		} else {
			g.codes[i] = q.element(f32(x * power(1, -e)))
		}
	}
}

func (q *quantizer) nv(g *packed, w []float64) {
	g.scale = uint32(nearestE4M3(q.ratio(w, 6)))
	d := codes[g.scale]
	inverse := 0.0
	if d != 0 {
		inverse = f32(1 / d)
	}
	for i, x := range w {
		switch {
		case !q.cpu:
			g.codes[i] = q.element(f32(x * inverse))
		case d != 0:
			g.codes[i] = q.element(q.keep(f32(x / d)))
		}
	}
}

// element returns the code of a scaled element.
func (q *quantizer) element(v float64) byte {
	switch {
	case q.Mode == mlxquant.MXFP8:
		return nearestE4M3(v)
	case q.cpu:
		return firstE2M1(v)
	}
	return evenE2M1(v)
}

func nearestE4M3(v float64) byte { return nearest(codes[:127], math.Abs(v)) | signOf(v)<<7 }

// nearest returns the index of the value nearest to a; of two equally near, the even one.
func nearest(values []float64, a float64) byte {
	c := 0
	for c+1 < len(values) && values[c+1] <= a {
		c++
	}
	if c+1 < len(values) {
		if below, above := a-values[c], values[c+1]-a; above < below || above == below && c%2 == 1 {
			c++
		}
	}
	return byte(c)
}

var e2m1 = [8]float64{0, 0.5, 1, 1.5, 2, 3, 4, 6}

func evenE2M1(v float64) byte {
	return nearest(e2m1[:], math.Abs(v)) | signOf(v)<<3
}

// firstE2M1 returns the first of all sixteen codes whose difference, in float32, is smallest.
func firstE2M1(v float64) (best byte) {
	least := math.Inf(1)
	for c := range byte(16) {
		value := e2m1[c&7]
		if c >= 8 {
			value = -value
		}
		if d := math.Abs(f32(v - value)); d < least {
			best, least = c, d
		}
	}
	return best
}

func signOf(v float64) byte {
	if math.Signbit(v) {
		return 1
	}
	return 0
}

// pack writes codes as a little-endian stream, bit by bit.
func pack(dst, codes []byte, bits int) {
	clear(dst[:len(codes)*bits/8])
	for i, c := range codes {
		for k := range bits {
			at := i*bits + k
			dst[at/8] |= c >> k & 1 << (at % 8)
		}
	}
}
