package mlxquant

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/metalcast/metalcast/internal/dtype"
)

const mostGroup = 128 // elements of the largest group

var little = binary.LittleEndian

// Quantizer quantizes rows of one type to one format. It is immutable.
type Quantizer struct {
	Format
	profile Profile
	from    dtype.DType
	inf     uint32  // in the source type
	fast    rowFunc // nil, or a faster equivalent of row
}

// A rowFunc quantizes a row as Row does.
type rowFunc func(q *Quantizer, codes, scales, biases []byte, w []float32) (bad int)

// New returns a quantizer for matrices of type BF16, F16 or F32.
func New(f Format, p Profile, from dtype.DType) (*Quantizer, error) {
	if err := f.Check(); err != nil {
		return nil, err
	}
	if !from.IsFloat() {
		return nil, fmt.Errorf("%s: elements of type %s, MLX quantizes BF16, F16 and F32", f, from)
	}
	return &Quantizer{Format: f, profile: p, from: from, inf: narrow(from, float32(math.Inf(1))), fast: fastRow(f, p)}, nil
}

// From returns the type of the elements.
func (q *Quantizer) From() dtype.DType { return q.from }

// Profile returns the backend that the quantizer follows.
func (q *Quantizer) Profile() Profile { return q.profile }

// Group quantizes the GroupSize elements of w, which are values of the source type, to GroupBytes
// of codes and to the bits of a scale and, if the format has one, a bias. finite is false if an
// element is infinite or NaN, or if the scale of finite elements would be infinite: everything
// written is then zero.
func (q *Quantizer) Group(codes []byte, w []float32) (scale, bias uint32, finite bool) {
	var unpacked [mostGroup]byte
	w, codes = w[:q.GroupSize], codes[:q.GroupBytes()]
	switch {
	case q.Mode == Affine && q.Bits == 1:
		scale, bias, finite = q.affine1(&unpacked, w)
	case q.Mode == Affine:
		scale, bias, finite = q.affine(&unpacked, w)
	case q.Mode == NVFP4:
		scale, finite = q.nv(&unpacked, w)
	default:
		scale, finite = q.mx(&unpacked, w)
	}
	if !finite {
		clear(codes)
		return 0, 0, false
	}
	pack(codes, &unpacked, uint(q.Bits))
	return scale, bias, true
}

// Row quantizes a row, which is a whole number of groups. It stores RowBytes in codes and
// little-endian values of ScaleType and BiasType in scales and biases; formats without biases do
// not touch biases. It returns the index of the first group that is not finite, as defined by
// Group, or -1.
func (q *Quantizer) Row(codes, scales, biases []byte, w []float32) (bad int) {
	if q.fast != nil {
		return q.fast(q, codes, scales, biases, w)
	}
	return q.row(codes, scales, biases, w)
}

// row is Row without vector code, one group at a time.
func (q *Quantizer) row(codes, scales, biases []byte, w []float32) (bad int) {
	bad = -1
	size := int(q.ScaleType(q.from).Size())
	for i := range q.Groups(len(w)) {
		scale, bias, finite := q.Group(codes[i*q.GroupBytes():], w[i*q.GroupSize:])
		if !finite && bad < 0 {
			bad = i
		}
		put(scales[i*size:], size, scale)
		if q.Mode == Affine {
			put(biases[i*size:], size, bias)
		}
	}
	return bad
}

func put(dst []byte, size int, bits uint32) {
	switch size {
	case 1:
		dst[0] = byte(bits)
	case 2:
		little.PutUint16(dst, uint16(bits))
	default:
		little.PutUint32(dst, bits)
	}
}

const infinity = 0x7F800000 // in float32

// extremes returns the least and the greatest element. Non-negative floats order like their bits,
// negative ones in reverse: so the greatest bits as signed integers are the greatest element, if
// any is positive, and the greatest bits as unsigned integers are the least, if any is negative.
// With zeros of both signs either may be returned.
func extremes(w []float32) (lo, hi float32, finite bool) {
	var low uint32
	top := int32(math.MinInt32)
	for _, x := range w {
		b := math.Float32bits(x)
		top, low = max(top, int32(b)), max(low, b)
	}
	if top >= infinity || low >= 1<<31|infinity {
		return 0, 0, false
	}
	high := uint32(top)
	if top < 0 || low < 1<<31 { // all of one sign
		least := uint32(math.MaxUint32)
		for _, x := range w {
			least = min(least, math.Float32bits(x))
		}
		if top < 0 {
			high = least
		} else {
			low = least
		}
	}
	return math.Float32frombits(low), math.Float32frombits(high), true
}

// magnitude returns the greatest absolute value.
func magnitude(w []float32) (amax float32, finite bool) {
	var top uint32
	for _, x := range w {
		top = max(top, math.Float32bits(x)&^(1<<31))
	}
	return math.Float32frombits(top), top < infinity
}
