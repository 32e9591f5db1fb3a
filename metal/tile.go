package metal

import (
	"fmt"
	"unsafe"

	"github.com/metalcast/metalcast/internal/dtype"
	"github.com/metalcast/metalcast/internal/kernel"
)

// The argument structs of shaders/convert.metal. TestStructs holds them equal.

// tableTile is TableTile there: a rectangle of codes that shares one scale.
type tableTile struct {
	src, scale, dst      uint32 // byte offsets in In and Out
	rows, cols           uint32 // at most tileRows and tileCols, or fewer rows of more columns
	srcStride, dstStride uint32 // elements
	transposed           uint32
}

// thinTile is ThinTile there: a rectangle of codes whose scale blocks are too thin for a table.
type thinTile struct {
	src, scale, dst      uint32
	rows, cols           uint32
	srcStride, dstStride uint32
	transposed           uint32
	scaleStride          uint32
	blockRows, blockCols uint32
	rowPhase, colPhase   uint32
}

// plainTile is PlainTile there: a rectangle of elements without scales.
type plainTile struct {
	src, dst             uint32
	rows, cols           uint32
	srcStride, dstStride uint32
	transposed           uint32
}

// status is Status there: what a threadgroup says of its tile.
type status struct{ done, met uint32 }

// ran tells whether the tile's threadgroup ran to its end.
func (s status) ran() bool { return s.done == kDone }

// sawSomething tells whether the CPU has to count in the tile's job; nans is the tile's other word.
func (s status) sawSomething(nans uint32) bool { return s.met|nans != 0 }

const (
	kDone        = 0x600D600D
	kMetScale    = 1
	kMetOverflow = 2
	kMetNaN      = 4
	kMetGroup    = 8
)

const (
	tileRows  = 128
	tileCols  = 128
	thinBlock = 256     // elements of a block below which a table costs more than it saves
	turnedRun = 32      // rows of a block below which that is so where the result is transposed: as many threads store a column
	runLength = 4 << 10 // elements of a thin or plain tile, at most
)

// dispatch is the tiles of one batch that one kernel takes.
type dispatch struct {
	kernel string
	batch  int
	first  int // index of its first tile's status; a multiple of align
	count  int
	offset int // of its first tile in the tile buffer, in bytes; a multiple of 256
	size   int // of a tile in bytes, where the tiles quantize; else 0
}

// align is how many statuses the next dispatch begins after, so that all offsets are multiples of 256 bytes.
const align = 64

// mostQuantized is how many tiles that quantize go into one command buffer, a multiple of align: 2 Mi elements.
const mostQuantized = 512

// commandBuffers spreads a window's dispatches over command buffers, to be waited for one after the other. What quantizes is cut, for a GPU that also draws the screen
// does so between command buffers; the others go into one.
func commandBuffers(list []dispatch) (buffers [][]dispatch) {
	var buffer []dispatch
	room := mostQuantized
	for _, d := range list {
		if d.size == 0 {
			buffer = append(buffer, d)
			continue
		}
		for d.count > 0 {
			part := d
			part.count = min(d.count, room)
			buffer = append(buffer, part)
			d.first += part.count
			d.offset += part.count * d.size
			d.count -= part.count
			if room -= (part.count + align - 1) / align * align; room == 0 {
				buffers, buffer, room = append(buffers, buffer), nil, mostQuantized
			}
		}
	}
	if len(buffer) > 0 {
		buffers = append(buffers, buffer)
	}
	return buffers
}

// layout is the tiles of one window, kept between windows.
type layout struct {
	table      []tableTile
	thin       []thinTile
	plain      []plainTile
	quantize   []quantizeTile
	jobs       []int32 // by status index: the job, in the order of tallies; -1 between dispatches
	dispatches []dispatch
	bytes      int // of the tile buffer
}

// plan cuts the jobs of a window into tiles.
func (l *layout) plan(batches []kernel.Batch) {
	l.table, l.thin, l.plain, l.quantize = l.table[:0], l.thin[:0], l.plain[:0], l.quantize[:0]
	l.jobs, l.dispatches, l.bytes = l.jobs[:0], l.dispatches[:0], 0
	job := int32(0)
	for i := range batches {
		b := &batches[i]
		all := func(*kernel.Job) bool { return true }
		switch b.Params.Op {
		default:
			l.collect(i, b, job, all, l.plainTiles, plainKernel(&b.Params))
		case kernel.Quantize:
			l.collect(i, b, job, all, l.quantizeTiles, quantizeKernel(&b.Params))
		case kernel.Dequant:
			names := "_" + suffix(b.Params.To) + "_scale_" + suffix(b.Params.ScaleType)
			l.collect(i, b, job, func(j *kernel.Job) bool { return !isThin(&b.Params, j) }, l.tableTiles, "table"+names)
			l.collect(i, b, job, func(j *kernel.Job) bool { return isThin(&b.Params, j) }, l.thinTiles, "thin"+names)
		}
		job += int32(len(b.Jobs))
	}
}

// plainKernel names the kernel of an operation without scales.
func plainKernel(p *kernel.Params) string {
	switch p.Op {
	case kernel.Copy:
		return fmt.Sprintf("copy_%d_bytes", p.From.Size())
	case kernel.AddOne:
		return "add_one_" + suffix(p.From) + "_to_" + suffix(p.To)
	}
	return "cast_" + suffix(p.From) + "_to_" + suffix(p.To)
}

// quantizeKernel names the kernel of a source.
func quantizeKernel(p *kernel.Params) string {
	if p.Scaled() {
		return "quantize_scale_" + suffix(p.ScaleType)
	}
	return "quantize_" + suffix(p.From)
}

func suffix(t dtype.DType) string {
	return map[dtype.DType]string{dtype.BF16: "bf16", dtype.F16: "f16", dtype.F32: "f32", dtype.F8E8M0: "e8m0"}[t]
}

func isThin(p *kernel.Params, j *kernel.Job) bool {
	rows := min(p.BlockRows, j.Rows)
	return rows*min(p.BlockCols, j.Cols) < thinBlock || p.Transposed && rows < turnedRun
}

// collect makes one dispatch of the jobs that a kernel takes.
func (l *layout) collect(batch int, b *kernel.Batch, job int32, takes func(*kernel.Job) bool, tiles func(*kernel.Params, *kernel.Job) (added, size int), name string) {
	d := dispatch{kernel: name, batch: batch, first: len(l.jobs), offset: l.bytes}
	for k := range b.Jobs {
		if !takes(&b.Jobs[k]) {
			continue
		}
		n, size := tiles(&b.Params, &b.Jobs[k])
		if b.Params.Op == kernel.Quantize {
			d.size = size
		}
		for range n {
			l.jobs = append(l.jobs, job+int32(k))
		}
		l.bytes += n * size
		d.count += n
	}
	if d.count == 0 {
		return
	}
	for len(l.jobs)%align != 0 {
		l.jobs = append(l.jobs, -1)
	}
	l.bytes = (l.bytes + 255) &^ 255
	l.dispatches = append(l.dispatches, d)
}

// tableTiles cuts a job at its blocks, and blocks that are larger than a tile. Blocks of few rows make long tiles, so that a table serves as
// many codes as there.
func (l *layout) tableTiles(p *kernel.Params, j *kernel.Job) (added, size int) {
	before := len(l.table)
	tileCols := tileCols
	if !p.Transposed {
		tileCols = tileRows * tileCols / min(tileRows, p.BlockRows, j.Rows) &^ 127
	}
	for r := 0; r < j.Rows; {
		blockRow := (r + j.RowPhase) / p.BlockRows
		end := min(j.Rows, (blockRow+1)*p.BlockRows-j.RowPhase, r+tileRows)
		for c := 0; c < j.Cols; {
			blockCol := (c + j.ColPhase) / p.BlockCols
			right := min(j.Cols, (blockCol+1)*p.BlockCols-j.ColPhase, c+tileCols)
			l.table = append(l.table, tableTile{
				src:   uint32(j.Src + r*j.SrcStride + c),
				scale: uint32(j.Scale + (blockRow*j.ScaleStride+blockCol)*int(p.ScaleType.Size())),
				dst:   uint32(j.Dst + p.OutAt(j, r, c)*int(p.To.Size())),
				rows:  uint32(end - r), cols: uint32(right - c), srcStride: uint32(j.SrcStride), dstStride: uint32(j.DstStride),
				transposed: transposed(p),
			})
			c = right
		}
		r = end
	}
	return len(l.table) - before, int(unsafe.Sizeof(tableTile{}))
}

// thinTiles cuts a job into rectangles of runLength elements.
func (l *layout) thinTiles(p *kernel.Params, j *kernel.Job) (added, size int) {
	before := len(l.thin)
	rectangles(j, p.Transposed, runLength, func(r, c, rows, cols int) {
		scaleRow, scaleCol := (r+j.RowPhase)/p.BlockRows, (c+j.ColPhase)/p.BlockCols
		l.thin = append(l.thin, thinTile{
			src:   uint32(j.Src + r*j.SrcStride + c),
			scale: uint32(j.Scale + (scaleRow*j.ScaleStride+scaleCol)*int(p.ScaleType.Size())),
			dst:   uint32(j.Dst + p.OutAt(j, r, c)*int(p.To.Size())),
			rows:  uint32(rows), cols: uint32(cols), srcStride: uint32(j.SrcStride), dstStride: uint32(j.DstStride),
			transposed: transposed(p), scaleStride: uint32(j.ScaleStride), blockRows: uint32(p.BlockRows), blockCols: uint32(p.BlockCols),
			rowPhase: uint32((r + j.RowPhase) % p.BlockRows), colPhase: uint32((c + j.ColPhase) % p.BlockCols),
		})
	})
	return len(l.thin) - before, int(unsafe.Sizeof(thinTile{}))
}

// plainTiles cuts a job into rectangles of runLength elements.
func (l *layout) plainTiles(p *kernel.Params, j *kernel.Job) (added, size int) {
	before := len(l.plain)
	rectangles(j, p.Transposed, runLength, func(r, c, rows, cols int) {
		l.plain = append(l.plain, plainTile{
			src:  uint32(j.Src + (r*j.SrcStride+c)*int(p.From.Size())),
			dst:  uint32(j.Dst + p.OutAt(j, r, c)*int(p.To.Size())),
			rows: uint32(rows), cols: uint32(cols), srcStride: uint32(j.SrcStride), dstStride: uint32(j.DstStride),
			transposed: transposed(p),
		})
	})
	return len(l.plain) - before, int(unsafe.Sizeof(plainTile{}))
}

func transposed(p *kernel.Params) uint32 {
	if p.Transposed {
		return 1
	}
	return 0
}
