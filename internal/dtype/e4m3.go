package dtype

import "math"

// E4M3Values returns the value of every E4M3FN code, NaN for 0x7F and 0xFF (Micikevicius et al.,
// "FP8 Formats for Deep Learning", arXiv:2209.05433, section 3).
func E4M3Values() (t [256]float32) {
	for c := range t {
		e, m := c>>3&15, c&7
		v := math.Ldexp(float64(m), -9)
		if e > 0 {
			v = math.Ldexp(float64(8+m), e-10)
		}
		if c&127 == 127 {
			v = math.NaN()
		}
		if c >= 128 {
			v = -v
		}
		t[c] = float32(v)
	}
	return t
}
