package mlxquant

import "math"

const epsilon = 1e-7 // MLX's smallest scale, as a float32

// affine quantizes a group to 2 bits or more.
func (q *Quantizer) affine(codes *[mostGroup]byte, w []float32) (scale, bias uint32, finite bool) {
	lo, hi, finite := extremes(w)
	if !finite {
		return 0, 0, false
	}
	s, b, scale, bias, finite := q.affineScale(lo, hi)
	switch {
	case !finite || s == 0:
	case q.profile == Metal:
		awayCodes(codes, w, b, s, 1<<q.Bits-1)
	default:
		evenCodes(codes, w, b, s, 1<<q.Bits-1)
	}
	return scale, bias, finite
}

// affineScale returns the scale and bias of a group with the given extremes, narrowed and not. s is
// 0 if all elements are equal and beyond 1e31: n was infinite; the quotients are 0/0, which MLX on
// x86-64 turns into 0.
func (q *Quantizer) affineScale(lo, hi float32) (s, b float32, scale, bias uint32, finite bool) {
	if q.profile == Metal {
		hi = max(hi, 0)
	}
	s = max((hi-lo)/float32(int32(1)<<q.Bits-1), epsilon)
	edge := lo
	if abs(lo) <= abs(hi) {
		s, edge = -s, hi
	}
	if n := q.round(edge / s); n != 0 {
		s, b = edge/n, edge
	}
	scale = narrow(q.from, s)
	if scale&q.inf == q.inf {
		return 0, 0, 0, 0, false
	}
	return s, b, scale, narrow(q.from, b), true
}

// affine1 quantizes a group to one bit.
func (q *Quantizer) affine1(codes *[mostGroup]byte, w []float32) (scale, bias uint32, finite bool) {
	lo, hi, finite := extremes(w)
	if !finite {
		return 0, 0, false
	}
	if q.profile == Metal {
		hi = max(hi, 0)
	}
	if lo == 0 { // the bias has the sign of the first element
		for _, x := range w {
			if x == 0 {
				lo = x
				break
			}
		}
	}
	s := max(hi-lo, epsilon)
	scale = narrow(q.from, s)
	if scale&q.inf == q.inf {
		return 0, 0, false
	}
	if q.profile == Metal {
		awayCodes(codes, w, lo, s, 1)
	} else {
		evenCodes(codes, w, lo, s, 1)
	}
	return scale, narrow(q.from, lo), true
}

// round rounds to an integer by the profile's rule for ties. In float64 both rules are exact.
func (q *Quantizer) round(v float32) float32 {
	if q.profile == Metal {
		return float32(math.Round(float64(v)))
	}
	return float32(math.RoundToEven(float64(v)))
}

// awayCodes rounds (x-b)/s, which is at least -0.5, or 0 if that is a tie. Dividing by s/2 doubles
// the quotient exactly: s is so far above the smallest normal number that s/2 is normal too.
func awayCodes(codes *[mostGroup]byte, w []float32, b, s float32, most int32) {
	half := s / 2
	for i, x := range w[:min(len(w), mostGroup)] {
		codes[i] = byte(min((int32((x-b)/half)+1)>>1, most))
	}
}

// evenCodes rounds (x-b)/s, which is between -0.5 and 256, by adding 1.5*2^23, where consecutive
// float32 numbers are 1 apart.
func evenCodes(codes *[mostGroup]byte, w []float32, b, s float32, most int32) {
	const shift, bits = 3 << 22, 0x4B400000
	for i, x := range w[:min(len(w), mostGroup)] {
		v := (x-b)/s + shift
		codes[i] = byte(min(int32(math.Float32bits(v))-bits, most))
	}
}

func abs(x float32) float32 { return math.Float32frombits(math.Float32bits(x) &^ (1 << 31)) }
