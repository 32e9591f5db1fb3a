package mlxquant

import (
	"math/big"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/metalcast/metalcast/internal/dtype"
	"github.com/metalcast/metalcast/internal/needtest"
)

// The oracle in this file computes with rational numbers and rounds them itself: no float
// operations, no tricks. Its zeros have no sign; where that matters its results are compared as
// values.

type rat = big.Rat

func fromFloat(x float32) *rat { return new(rat).SetFloat64(float64(x)) }
func sub(x, y *rat) *rat       { return new(rat).Sub(x, y) }
func mul(x, y *rat) *rat       { return new(rat).Mul(x, y) }
func quo(x, y *rat) *rat       { return new(rat).Quo(x, y) }
func absolute(x *rat) *rat     { return new(rat).Abs(x) }
func pow2(e int) *rat {
	n := new(rat).SetInt(new(big.Int).Lsh(big.NewInt(1), uint(max(e, -e))))
	if e < 0 {
		n.Inv(n)
	}
	return n
}

// integer rounds to an integer; tie reports whether a tie is rounded up, given the integer below.
// Negative x are mirrored.
func integer(x *rat, tie func(below *big.Int) bool) *rat {
	a := absolute(x)
	below, rest := new(big.Int).QuoRem(a.Num(), a.Denom(), new(big.Int))
	n := new(rat).SetInt(below)
	if c := new(big.Int).Lsh(rest, 1).Cmp(a.Denom()); c > 0 || c == 0 && tie(below) {
		n.Add(n, big.NewRat(1, 1))
	}
	if x.Sign() < 0 {
		n.Neg(n)
	}
	return n
}

func odd(n *big.Int) bool  { return n.Bit(0) == 1 }
func always(*big.Int) bool { return true }
func floorLog2(x *rat) int { // x is positive
	e := x.Num().BitLen() - x.Denom().BitLen()
	if x.Cmp(pow2(e)) < 0 {
		e--
	}
	return e
}

// roundRat rounds to a type, to nearest with ties to even, without a greatest number.
func roundRat(x *rat, t dtype.DType) *rat {
	if x.Sign() == 0 {
		return x
	}
	digits := map[dtype.DType]int{dtype.F32: 24, dtype.BF16: 8, dtype.F16: 11, dtype.F8E4M3: 4}[t]
	least := map[dtype.DType]int{dtype.F32: -126, dtype.BF16: -126, dtype.F16: -14, dtype.F8E4M3: -6}[t]
	unit := pow2(max(floorLog2(absolute(x)), least) - digits + 1)
	return mul(integer(quo(x, unit), odd), unit)
}

func r32(x *rat) *rat { return roundRat(x, dtype.F32) }

// naive has a group's codes, scale and bias as numbers.
type naive struct {
	codes       []int64
	scale, bias *rat
}

func naiveAffine(f Format, p Profile, t dtype.DType, w []*rat) naive {
	tie := odd
	hi := w[0]
	if p == Metal {
		tie, hi = always, new(rat)
	}
	lo := w[0]
	for _, x := range w {
		if x.Cmp(hi) > 0 {
			hi = x
		}
		if x.Cmp(lo) < 0 {
			lo = x
		}
	}
	n := big.NewRat(1<<f.Bits-1, 1)
	eps := fromFloat(1e-7)
	s := r32(sub(hi, lo))
	if f.Bits > 1 {
		s = r32(quo(s, n))
	}
	if s.Cmp(eps) < 0 {
		s = eps
	}
	b := lo
	if f.Bits > 1 {
		edge := lo
		if absolute(lo).Cmp(absolute(hi)) <= 0 {
			edge, s = hi, new(rat).Neg(s)
		}
		b = new(rat)
		if q := integer(r32(quo(edge, s)), tie); absolute(q).Cmp(pow2(128)) >= 0 { // infinite
			return naive{make([]int64, len(w)), new(rat), edge}
		} else if q.Sign() != 0 {
			s, b = r32(quo(edge, q)), edge
		}
	}
	g := naive{scale: roundRat(s, t), bias: roundRat(b, t)}
	for _, x := range w {
		q := integer(r32(quo(r32(sub(x, b)), s)), tie)
		if q.Sign() < 0 {
			q = new(rat)
		}
		if q.Cmp(n) > 0 {
			q = n
		}
		g.codes = append(g.codes, q.Num().Int64())
	}
	return g
}

// naiveFP has the scale's value, and the elements' values instead of codes.
func naiveFP(f Format, p Profile, t dtype.DType, w []*rat) (scale *rat, elements []*rat) {
	most := big.NewRat(6, 1)
	if f.Mode == MXFP8 {
		most = big.NewRat(448, 1)
	}
	amax := new(rat)
	for _, x := range w {
		if a := absolute(x); a.Cmp(amax) > 0 {
			amax = a
		}
	}
	r := r32(quo(amax, most))
	if p == CPU {
		r = roundRat(r, t)
	}
	switch {
	case f.Mode == NVFP4:
		if scale = roundRat(r, dtype.F8E4M3); scale.Cmp(big.NewRat(448, 1)) > 0 {
			scale = big.NewRat(448, 1)
		}
	case r.Sign() == 0 && p == CPU:
		scale = pow2(0)
	case r.Sign() == 0:
		scale = pow2(-127)
	default:
		if scale = pow2(floorLog2(r)); scale.Cmp(r) < 0 {
			scale = mul(scale, pow2(1))
		}
		if p == Metal && scale.Cmp(pow2(-127)) < 0 {
			scale = pow2(-127)
		}
	}
	for _, x := range w {
		v := new(rat)
		switch {
		case scale.Sign() == 0:
		case p == Metal:
			v = r32(mul(x, r32(new(rat).Inv(scale))))
		default:
			v = roundRat(r32(quo(x, scale)), t)
		}
		switch {
		case f.Mode == MXFP8:
			if v = roundRat(v, dtype.F8E4M3); absolute(v).Cmp(big.NewRat(448, 1)) > 0 {
				v = new(rat).Mul(big.NewRat(448, 1), big.NewRat(int64(v.Sign()), 1))
			}
		default:
			v = naiveE2M1(v, p)
		}
		elements = append(elements, v)
	}
	return scale, elements
}

func naiveE2M1(v *rat, p Profile) *rat {
	best, distance := 0, absolute(v)
	for c := 1; c < 8; c++ {
		d := absolute(sub(absolute(v), fromFloat(e2m1[c])))
		if k := d.Cmp(distance); k < 0 || k == 0 && p == Metal && c%2 == 0 {
			best, distance = c, d
		}
	}
	value := fromFloat(e2m1[best])
	if v.Sign() < 0 {
		value.Neg(value)
	}
	return value
}

func TestNaive(t *testing.T) {
	needtest.Alone(t)
	r := rand.New(rand.NewPCG(7, 8))
	groups := 0
	for _, from := range floats {
		for _, f := range everyFormat() {
			w := make([]float32, needtest.Rounds(1, 2)*len(makers)*f.GroupSize)
			makeGroups(r, w, f.GroupSize, from)
			for _, p := range []Profile{Metal, CPU} {
				q, err := New(f, p, from)
				require.NoError(t, err)
				for i := 0; i < len(w); i += f.GroupSize {
					if checkNaive(t, q, w[i:i+f.GroupSize]) {
						groups++
					}
				}
			}
		}
	}
	t.Log(groups, "groups")
	require.Greater(t, groups, needtest.Rounds(2000, 4000))
}

func checkNaive(t *testing.T, q *Quantizer, w []float32) (checked bool) {
	t.Helper()
	codes := make([]byte, q.GroupBytes())
	scale, bias, finite := q.Group(codes, w)
	if !finite {
		return false // FuzzGroup checks why
	}
	var unpacked [mostGroup]byte
	unpack(&unpacked, codes, uint(q.Bits))
	exact := make([]*rat, len(w))
	for i, x := range w {
		exact[i] = fromFloat(x)
		if p := q.Profile(); q.Mode == NVFP4 && p == CPU && abs(x) > 1e9 {
			return false // argmin in float32
		}
	}
	if q.Mode == Affine {
		g := naiveAffine(q.Format, q.Profile(), q.From(), exact)
		require.Zero(t, g.scale.Cmp(fromFloat(widen(q.From(), scale))), "%s %s %s: %v: scale %v", q.Format, q.Profile(), q.From(), w, g.scale)
		require.Zero(t, g.bias.Cmp(fromFloat(widen(q.From(), bias))), "%s %s %s: %v: bias", q.Format, q.Profile(), q.From(), w)
		for i, c := range g.codes {
			if c != int64(unpacked[i]) { // testify's comparisons would take most of the time
				t.Fatalf("%s %s %s: %v: code %d is %d, want %d", q.Format, q.Profile(), q.From(), w, i, unpacked[i], c)
			}
		}
		return true
	}
	value, elements := naiveFP(q.Format, q.Profile(), q.From(), exact)
	// a wrapped scale has a different value
	if e := value.Denom().BitLen() - 1; q.Mode == NVFP4 || e <= 127 {
		require.Zero(t, value.Cmp(fromFloat(q.scale(byte(scale)))), "%s %s %s: %v: scale %v", q.Format, q.Profile(), q.From(), w, value)
	}
	for i, v := range elements {
		x := q.element(unpacked[i])
		if v.Cmp(fromFloat(x)) != 0 {
			t.Fatalf("%s %s %s: %v: element %d is %v, want %v", q.Format, q.Profile(), q.From(), w, i, x, v)
		}
		if x == 0 {
			negative := unpacked[i]>>(q.Bits-1) != 0
			keeps := q.Mode == MXFP8 || q.Profile() == Metal
			if negative != (keeps && signbit(w[i])) {
				t.Fatalf("%s %s %s: %v: zero %d", q.Format, q.Profile(), q.From(), w, i)
			}
		}
	}
	return true
}
