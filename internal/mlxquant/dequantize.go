package mlxquant

import (
	"math"

	"github.com/metalcast/metalcast/internal/dtype"
)

// Dequantize computes the elements of a row as mlx.core.dequantize does. t is the type of affine
// scales and biases, and of the result, whose values are stored in dst as float32; for the other
// modes MLX itself chooses BF16. Affine products and sums are each rounded to t, as on the CPU;
// Metal may fuse the two, and MLX's matrix products compute in float32: they differ from this in
// the last bit of t. In the other modes the product is computed in float32 and rounded to t, as on
// Metal. The CPU rounds an E8M0 scale to t first, which changes it if t is F16 and cannot represent
// it.
func (f Format) Dequantize(dst []float32, codes, scales, biases []byte, t dtype.DType) {
	var unpacked [mostGroup]byte
	size := int(f.ScaleType(t).Size())
	round := func(x float32) float32 { return widen(t, narrow(t, x)) }
	for i := range f.Groups(len(dst)) {
		unpack(&unpacked, codes[i*f.GroupBytes():(i+1)*f.GroupBytes()], uint(f.Bits))
		d := dst[i*f.GroupSize : (i+1)*f.GroupSize]
		if f.Mode == Affine {
			s, b := widen(t, get(scales[i*size:], size)), widen(t, get(biases[i*size:], size))
			for k := range d {
				d[k] = round(round(float32(float32(unpacked[k])*s)) + b)
			}
			continue
		}
		s := f.scale(scales[i])
		for k := range d {
			d[k] = round(float32(f.element(unpacked[k]) * s))
		}
	}
}

func get(src []byte, size int) uint32 {
	if size == 2 {
		return uint32(little.Uint16(src))
	}
	return little.Uint32(src)
}

// scale returns the value of a one-byte scale.
func (f Format) scale(code byte) float32 {
	if f.Mode == NVFP4 {
		return e4m3[code]
	}
	return float32(math.Ldexp(1, int(code)-127))
}

// element returns the value of an element in an fp mode.
func (f Format) element(code byte) float32 {
	switch {
	case f.Mode == MXFP8:
		return e4m3[code]
	case code >= 8:
		return -e2m1[code&7]
	}
	return e2m1[code]
}
