//go:build !purego

package cpufallback

import (
	"math"
	"unsafe"

	"github.com/metalcast/metalcast/internal/dtype"
	"golang.org/x/sys/cpu"
)

// fastRows is what the machine has, the best first.
func fastRows() (list []namedRows) {
	x := &cpu.X86
	if x.HasAVX512F && x.HasAVX512BW && x.HasAVX512DQ && x.HasAVX512VL && x.HasAVX512VBMI && x.HasBMI2 {
		list = append(list, namedRows{"VBMI", rowsVBMI})
	}
	if x.HasAVX2 && x.HasFMA { // and so F16C
		list = append(list, namedRows{"AVX2", rowsAVX2})
	}
	return list
}

// rowsVBMI is for AVX-512 with VBMI: Ice Lake, Zen 4 and later. A table of 16-bit results is planes of 128 bytes: the low bytes of
// the magnitudes' results, their high bytes, and the high bytes for negative codes. One of 32-bit results is the scale alone: multiplying is
// as fast as a lookup.
var rowsVBMI = rows{fillVBMI, fillScale, lookupVBMI, lookupScale, multiplyVBMI, castAVX512, storeFence}

// storeFence orders stores past the caches before what follows.
func storeFence()

//go:noescape
func fill16(t *uint16, scale float32, half bool)

//go:noescape
func lookup16(dst, src *byte, t *uint16, head, width, n int, stream bool) (nan bool)

//go:noescape
func multiplyBF16(dst, src *byte, scales *float32, stride, head, width, n int) (top uint32, nan bool)

//go:noescape
func multiplyF16(dst, src *byte, scales *float32, stride, head, width, n int) (top uint32, nan bool)

//go:noescape
func multiplyF32(dst, src *byte, scales *float32, stride, head, width, n int) (top uint32, nan bool)

func fillVBMI(t *table[uint16], scale float32, to dtype.DType) (least byte) {
	fill16(&t[0], scale, to == dtype.F16)
	return leastOverflow(scale, to)
}

func fillScale(t *table[uint32], scale float32, to dtype.DType) (least byte) {
	t[0] = math.Float32bits(scale)
	return leastOverflow(scale, to)
}

func lookupVBMI(dst, src []byte, t []table[uint16], head, width int, stream bool) bool {
	if len(src) == 0 {
		return false
	}
	_, _ = dst[2*len(src)-1], t[blocks(len(src), head, width)-1]
	return lookup16(&dst[0], &src[0], &t[0][0], head, width, len(src), stream)
}

func lookupScale(dst, src []byte, t []table[uint32], head, width int, _ bool) bool {
	if len(src) == 0 {
		return false
	}
	_, _ = dst[4*len(src)-1], t[blocks(len(src), head, width)-1]
	_, nan := multiplyF32(&dst[0], &src[0], (*float32)(unsafe.Pointer(&t[0][0])), int(unsafe.Sizeof(t[0])), head, width, len(src))
	return nan
}

// blocks is how many blocks n codes touch.
func blocks(n, head, width int) int { return 1 + (max(n-head, 0)+width-1)/width }

func multiplyVBMI(dst, src []byte, scales []float32, head, width int, to dtype.DType) (inf, nan bool) {
	if len(src) == 0 {
		return false, false
	}
	_, _ = dst[int(to.Size())*len(src)-1], scales[blocks(len(src), head, width)-1]
	multiply := multiplyBF16
	switch to {
	case dtype.F16:
		multiply = multiplyF16
	case dtype.F32:
		multiply = multiplyF32
	}
	top, nan := multiply(&dst[0], &src[0], &scales[0], 4, head, width, len(src))
	return top >= roundTo(to, infinity), nan
}

//go:noescape
func castBF16ToBF16(dst, src *byte, n int) (overflow bool)

//go:noescape
func castBF16ToF16(dst, src *byte, n int) (overflow bool)

//go:noescape
func castF16ToBF16(dst, src *byte, n int) (overflow bool)

//go:noescape
func castF16ToF16(dst, src *byte, n int) (overflow bool)

//go:noescape
func castF32ToBF16(dst, src *byte, n int) (overflow bool)

//go:noescape
func castF32ToF16(dst, src *byte, n int) (overflow bool)

func castAVX512(dst, src []byte, from, to dtype.DType) (overflow bool) {
	in, out := int(from.Size()), int(to.Size())
	n := len(src) / in &^ 15
	if n == 0 || to == dtype.F32 {
		return castRow(dst, src, from, to)
	}
	_ = dst[n*out-1]
	d, s := &dst[0], &src[0]
	switch {
	case to == dtype.BF16 && from == dtype.BF16:
		overflow = castBF16ToBF16(d, s, n)
	case to == dtype.BF16 && from == dtype.F16:
		overflow = castF16ToBF16(d, s, n)
	case to == dtype.BF16:
		overflow = castF32ToBF16(d, s, n)
	case from == dtype.BF16:
		overflow = castBF16ToF16(d, s, n)
	case from == dtype.F16:
		overflow = castF16ToF16(d, s, n)
	default:
		overflow = castF32ToF16(d, s, n)
	}
	return castRow(dst[n*out:], src[n*in:], from, to) || overflow
}
