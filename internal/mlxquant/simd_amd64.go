//go:build !purego

package mlxquant

//lint:file-ignore U1000 the fields of batch are the assembly's

import (
	"github.com/metalcast/metalcast/internal/dtype"
	"golang.org/x/sys/cpu"
)

const mostGroups = 16 // groups in a batch: their scales are computed together

// A batch is up to 16 groups being processed, one lane each.
type batch struct {
	lo, hi [mostGroups]float32 // extremes; hi the greatest magnitude in fp modes
	// bias is subtracted from elements, which are divided by by, or multiplied by it in fp modes
	by, bias [mostGroups]float32
	scales   [4 * mostGroups]byte
	biases   [4 * mostGroups]byte
	_        [8 * 4 * mostGroups]byte // of the reductions
}

//go:noescape
func limits(c *batch, w *float32, vectors, groups int) (finite bool)

//go:noescape
func magnitudes(c *batch, w *float32, vectors, groups int) (finite bool)

//go:noescape
func affineScales(c *batch, most float32, away bool, from, infinite int) (fit bool)

//go:noescape
func away4(codes *byte, w *float32, c *batch, vectors, groups, most int)

//go:noescape
func away8(codes *byte, w *float32, c *batch, vectors, groups, most int)

//go:noescape
func even4(codes *byte, w *float32, c *batch, vectors, groups, most int)

//go:noescape
func even8(codes *byte, w *float32, c *batch, vectors, groups, most int)

//go:noescape
func mxScales(c *batch, most float32)

//go:noescape
func nvScales(c *batch)

//go:noescape
func fp8(codes *byte, w *float32, c *batch, vectors, groups int)

//go:noescape
func fp4(codes *byte, w *float32, c *batch, vectors, groups int, cells *byte)

//go:noescape
func widenBF16(dst *float32, src *byte, n int)

//go:noescape
func widenF16(dst *float32, src *byte, n int)

//go:noescape
func squeeze8(dst, src *byte, mask uint64, bits, n int)

var hasAVX512 = cpu.X86.HasAVX512F && cpu.X86.HasAVX512BW && cpu.X86.HasAVX512DQ && cpu.X86.HasAVX512VL && cpu.X86.HasBMI2

// fastWiden is Widen for the start of the row, whose length it returns.
func fastWiden(dst []float32, src []byte, from dtype.DType) int {
	n := len(dst) &^ 15
	if n == 0 || !hasAVX512 {
		return 0
	}
	_ = src[int(from.Size())*n-1]
	switch from {
	case dtype.BF16:
		widenBF16(&dst[0], &src[0], n)
	case dtype.F16:
		widenF16(&dst[0], &src[0], n)
	default:
		return 0
	}
	return n
}

func fastRow(f Format, p Profile) rowFunc {
	switch {
	case !hasAVX512:
	case f.Mode == Affine && f.Bits > 1:
		return affineRow
	case f.Mode != Affine && p == Metal:
		return fpRow
	}
	return nil
}

func affineRow(q *Quantizer, codes, scales, biases []byte, w []float32) (bad int) {
	var c batch
	bad = -1
	size, vectors, most := int(q.from.Size()), q.GroupSize/16, 1<<q.Bits-1
	from, infinite := 0, 0x7F7F8000
	switch q.from {
	case dtype.F16:
		from, infinite = 1, 0x477FF000
	case dtype.F32:
		from, infinite = 2, infinity
	}
	for first := 0; len(w) >= q.GroupSize; first += mostGroups {
		n := min(mostGroups, len(w)/q.GroupSize)
		elements, packed, bytes := n*q.GroupSize, n*q.GroupBytes(), n*size
		_, _, _ = codes[packed-1], scales[bytes-1], biases[bytes-1]
		if limits(&c, &w[0], vectors, n) && affineScales(&c, float32(most), q.profile == Metal, from, infinite) {
			q.affineCodes(codes[:packed], &c, w[:elements], vectors, n, most)
			copy(scales, c.scales[:bytes])
			copy(biases, c.biases[:bytes])
		} else if i := q.row(codes[:packed], scales[:bytes], biases[:bytes], w[:elements]); i >= 0 && bad < 0 {
			bad = first + i
		}
		codes, scales, biases, w = codes[packed:], scales[bytes:], biases[bytes:], w[elements:]
	}
	return bad
}

func fpRow(q *Quantizer, codes, scales, _ []byte, w []float32) (bad int) {
	var c batch
	bad = -1
	vectors := q.GroupSize / 16
	for first := 0; len(w) >= q.GroupSize; first += mostGroups {
		n := min(mostGroups, len(w)/q.GroupSize)
		elements, packed := n*q.GroupSize, n*q.GroupBytes()
		_, _ = codes[packed-1], scales[n-1]
		if magnitudes(&c, &w[0], vectors, n) {
			switch q.Mode {
			case MXFP8:
				mxScales(&c, 448)
				fp8(&codes[0], &w[0], &c, vectors, n)
			case MXFP4:
				mxScales(&c, 6)
				fp4(&codes[0], &w[0], &c, vectors, n, &cellsMetal[0])
			default:
				nvScales(&c)
				fp4(&codes[0], &w[0], &c, vectors, n, &cellsMetal[0])
			}
			copy(scales, c.scales[:n])
		} else if i := q.row(codes[:packed], scales[:n], nil, w[:elements]); i >= 0 && bad < 0 {
			bad = first + i
		}
		codes, scales, w = codes[packed:], scales[n:], w[elements:]
	}
	return bad
}

func (q *Quantizer) affineCodes(codes []byte, c *batch, w []float32, vectors, groups, most int) {
	if q.Bits == 4 {
		if q.profile == Metal {
			away4(&codes[0], &w[0], c, vectors, groups, most)
		} else {
			even4(&codes[0], &w[0], c, vectors, groups, most)
		}
		return
	}
	var unpacked [mostGroups * mostGroup]byte
	to := unpacked[:]
	if q.Bits == 8 {
		to = codes
	}
	if q.profile == Metal {
		away8(&to[0], &w[0], c, vectors, groups, most)
	} else {
		even8(&to[0], &w[0], c, vectors, groups, most)
	}
	if q.Bits == 8 {
		return
	}
	whole := (len(codes)-8)/q.Bits + 1 // stores of 8 bytes that stay inside
	squeeze8(&codes[0], &unpacked[0], ones*uint64(most), q.Bits, whole)
	for i := whole; i < len(w)/8; i++ {
		v := squeeze(little.Uint64(unpacked[8*i:]), uint(q.Bits))
		for k := range q.Bits {
			codes[i*q.Bits+k] = byte(v >> (8 * k))
		}
	}
}

const ones = 0x0101010101010101
