package cpufallback

import (
	"math"

	"github.com/metalcast/metalcast/internal/dtype"
	"github.com/metalcast/metalcast/internal/kernel"
)

// multiply computes a tile element by element, for blocks too small for tables.
func (r *run) multiply(w *work, t tile, line []byte, scales []float32) (found kernel.Tally) {
	sheet := r.sheet(w, t, line)
	first, head := w.ColPhase+t.c0, w.BlockCols // head: columns of the tile in its first block
	first, head = first/w.BlockCols, head-first%w.BlockCols
	scales = scales[:(w.ColPhase+t.c1-1)/w.BlockCols-first+1]
	for row := t.r0; row < t.r1; row++ {
		band := (w.RowPhase + row) / w.BlockRows
		if begins := (w.RowPhase+row)%w.BlockRows == 0; begins || row == t.r0 {
			r.loadScales(scales, w, band, first)
			for i, scale := range scales {
				if !finite(scale) && w.owns(t, row, band, first+i) {
					found.Scale.At(row, max(t.c0, (first+i)*w.BlockCols-w.ColPhase), 1)
				}
			}
		}
		at := w.Src + row*w.SrcStride + t.c0
		src := r.in[at : at+t.c1-t.c0]
		inf, nan := r.kernels.multiply(sheet.results(row, t.c0, len(src)), src, scales, head, w.BlockCols, w.To)
		if nan {
			countNaN(&found.NaN, src, row, t.c0)
		}
		if inf {
			countInfinite(&found.Overflow, src, scales, head, w.BlockCols, w.To, row, t.c0)
		}
		sheet.end(row)
	}
	return found
}

// loadScales reads the scales of neighbouring blocks.
func (r *run) loadScales(scales []float32, w *work, down, across int) {
	size := int(w.ScaleType.Size())
	at := w.Scale + (down*w.ScaleStride+across)*size
	in := r.in[at : at+len(scales)*size]
	switch w.ScaleType {
	case dtype.F8E8M0:
		for i := range scales {
			scales[i] = math.Float32frombits(widenE8M0(in[i]))
		}
	case dtype.F32:
		for i := range scales {
			scales[i] = math.Float32frombits(canonical(little.Uint32(in[4*i:])))
		}
	default:
		for i := range scales {
			scales[i] = math.Float32frombits(widen(in, i, w.ScaleType))
		}
	}
}

// multiplyRow multiplies block by block.
func multiplyRow(dst, src []byte, scales []float32, head, width int, to dtype.DType) (inf, nan bool) {
	size := int(to.Size())
	for _, scale := range scales {
		n := min(head, len(src))
		i, c := multiplyBlock(dst[:n*size], src[:n], scale, to)
		inf, nan = inf || i, nan || c
		src, dst, head = src[n:], dst[n*size:], width
	}
	return inf, nan
}

// multiplyBlock multiplies one row of a block. It tells whether results may be infinite and whether a NaN code was among the codes.
func multiplyBlock(dst, src []byte, scale float32, to dtype.DType) (inf, nan bool) {
	var top uint32 // greatest magnitude; that of NaN is beyond infinity
	var seen uint64
	switch to {
	case dtype.BF16:
		for i, c := range src {
			w := uint32(roundBF16(product(c, scale)))
			top, seen = max(top, w&0x7FFF), seen|seenNaN(uint64(c))
			little.PutUint16(dst[2*i:], uint16(w))
		}
	case dtype.F16:
		for i, c := range src {
			w := uint32(roundF16(product(c, scale)))
			top, seen = max(top, w&0x7FFF), seen|seenNaN(uint64(c))
			little.PutUint16(dst[2*i:], uint16(w))
		}
	default:
		for i, c := range src {
			w := product(c, scale)
			top, seen = max(top, w&0x7FFFFFFF), seen|seenNaN(uint64(c))
			little.PutUint32(dst[4*i:], w)
		}
	}
	return top >= roundTo(to, infinity), seen&0x80 != 0
}

// countInfinite adds the codes of a row whose scale is finite but whose result is infinite.
func countInfinite(s *kernel.Spot, src []byte, scales []float32, head, width int, to dtype.DType, row, col int) {
	inf := roundTo(to, infinity)
	sign := uint32(1) << (8*to.Size() - 1)
	end := head
	for i, c := range src {
		if i == end {
			scales, end = scales[1:], end+width
		}
		if finite(scales[0]) && roundTo(to, product(c, scales[0]))&^sign == inf {
			s.At(row, col+i, 1)
		}
	}
}
