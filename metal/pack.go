package metal

import (
	"unsafe"

	"github.com/metalcast/metalcast/internal/dtype"
	"github.com/metalcast/metalcast/internal/kernel"
)

// quantizeTile is QuantizeTile in shaders/quantize.metal: a rectangle of whole groups.
type quantizeTile struct {
	src, scale            uint32 // byte offsets in In
	codes, scales, biases uint32 // and in Out
	rows, cols            uint32 // of the source
	srcStride             uint32 // elements
	transposed            uint32
	lineBytes, lineGroups uint32
	scaleStride           uint32
	blockRows, blockCols  uint32
	rowPhase, colPhase    uint32
	mode, bits, group     uint32
	cpu, to               uint32
}

// kTo is the numbers of types there: kBF16, kF16, kF32. Modes and profiles have those of package mlxquant.
var kTo = map[dtype.DType]uint32{dtype.BF16: 0, dtype.F16: 1, dtype.F32: 2}

// quantizeTiles cuts a job into rectangles of whole groups, of at most runLength elements.
func (l *layout) quantizeTiles(p *kernel.Params, j *kernel.Job) (added, size int) {
	before := len(l.quantize)
	_, cols, _, _, _ := p.Packed(j)
	one := quantizeTile{
		srcStride: uint32(j.SrcStride), transposed: transposed(p), lineBytes: uint32(p.Format.RowBytes(cols)), lineGroups: uint32(p.Format.Groups(cols)),
		scaleStride: uint32(j.ScaleStride), blockRows: uint32(p.BlockRows), blockCols: uint32(p.BlockCols),
		mode: uint32(p.Format.Mode), bits: uint32(p.Format.Bits), group: uint32(p.Format.GroupSize), cpu: uint32(p.Profile), to: kTo[p.To],
	}
	groupRectangles(p, j, runLength, func(r, c, rows, cols int) {
		k := part(p, j, r, c, rows, cols, 0)
		at := packedAt(p, j, r, c)
		t := one
		t.src, t.scale, t.codes, t.scales, t.biases = uint32(k.Src), uint32(k.Scale), uint32(at[0]), uint32(at[1]), uint32(at[2])
		t.rows, t.cols, t.rowPhase, t.colPhase = uint32(rows), uint32(cols), uint32(k.RowPhase), uint32(k.ColPhase)
		l.quantize = append(l.quantize, t)
	})
	return len(l.quantize) - before, int(unsafe.Sizeof(quantizeTile{}))
}

// groupRectangles is rectangles for a job that quantizes, n at least the largest group: no group is cut.
func groupRectangles(p *kernel.Params, j *kernel.Job, n int, each func(r, c, rows, cols int)) {
	size := p.Format.GroupSize
	if !p.Transposed {
		n -= n % size
		rectangles(j, false, n, each)
		return
	}
	rows := min(j.Rows, max(1, n/size/j.Cols)*size)
	cols := min(j.Cols, n/rows)
	for r := 0; r < j.Rows; r += rows {
		for c := 0; c < j.Cols; c += cols {
			each(r, c, min(rows, j.Rows-r), min(cols, j.Cols-c))
		}
	}
}

// packedAt is where codes, scale and bias of the group that begins at an element go, in bytes.
func packedAt(p *kernel.Params, j *kernel.Job, r, c int) [3]int {
	_, cols, _, _, _ := p.Packed(j)
	if p.Transposed {
		r, c = c, r
	}
	f := &p.Format
	group := r*f.Groups(cols) + c/f.GroupSize
	at := group * int(f.ScaleType(p.To).Size())
	return [3]int{j.Dst + group*f.GroupBytes(), j.DstScale + at, j.DstBias + at}
}

// placePacked gives a job that quantizes its place from dst on, codes, scales, biases, and the end of that.
func placePacked(p *kernel.Params, j *kernel.Job, dst int) (end int) {
	_, _, codes, scales, biases := p.Packed(j)
	j.Dst = dst
	j.DstScale = dst + int(codes)
	j.DstBias = j.DstScale + int(scales)
	return (j.DstBias + int(biases) + 3) &^ 3
}
