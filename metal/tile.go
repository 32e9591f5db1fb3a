package metal

import (
	"unsafe"

	"github.com/metalcast/metalcast/internal/dtype"
	"github.com/metalcast/metalcast/internal/kernel"
)

// The argument structs of shaders/metalcast.metal. TestStructs holds them equal.

// tableTile is TableTile there: a rectangle of codes that shares one scale.
type tableTile struct {
	src, scale, dst      uint32 // byte offsets in In and Out
	rows, cols           uint32 // at most tileRows, tileCols
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

// castTile is CastTile there: a run of elements.
type castTile struct{ src, dst, count uint32 }

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
)

const (
	tileRows  = 128
	tileCols  = 128
	thinBlock = 256     // elements of a block below which a table costs more than it saves
	runLength = 4 << 10 // elements of a thin or cast tile, at most
)

// dispatch is the tiles of one batch that one kernel takes.
type dispatch struct {
	kernel string
	batch  int
	first  int // index of its first tile's status; a multiple of align
	count  int
	offset int // of its first tile in the tile buffer, in bytes; a multiple of 256
}

// align is how many statuses the next dispatch begins after, so that all offsets are multiples of 256 bytes.
const align = 64

// layout is the tiles of one window, kept between windows.
type layout struct {
	table      []tableTile
	thin       []thinTile
	cast       []castTile
	jobs       []int32 // by status index: the job, in the order of tallies; -1 between dispatches
	dispatches []dispatch
	bytes      int // of the tile buffer
}

// plan cuts the jobs of a window into tiles.
func (l *layout) plan(batches []kernel.Batch) {
	l.table, l.thin, l.cast = l.table[:0], l.thin[:0], l.cast[:0]
	l.jobs, l.dispatches, l.bytes = l.jobs[:0], l.dispatches[:0], 0
	job := int32(0)
	for i := range batches {
		b := &batches[i]
		if b.Params.Op == kernel.Cast {
			l.collect(i, b, job, func(*kernel.Job) bool { return true }, l.castTiles, "cast_"+suffix(b.Params.From)+"_to_"+suffix(b.Params.To))
		} else {
			names := "_" + suffix(b.Params.To) + "_scale_" + suffix(b.Params.ScaleType)
			l.collect(i, b, job, func(j *kernel.Job) bool { return !isThin(&b.Params, j) }, l.tableTiles, "table"+names)
			l.collect(i, b, job, func(j *kernel.Job) bool { return isThin(&b.Params, j) }, l.thinTiles, "thin"+names)
		}
		job += int32(len(b.Jobs))
	}
}

func suffix(t dtype.DType) string {
	return map[dtype.DType]string{dtype.BF16: "bf16", dtype.F16: "f16", dtype.F32: "f32"}[t]
}

func isThin(p *kernel.Params, j *kernel.Job) bool {
	return min(p.BlockRows, j.Rows)*min(p.BlockCols, j.Cols) < thinBlock
}

// collect makes one dispatch of the jobs that a kernel takes.
func (l *layout) collect(batch int, b *kernel.Batch, job int32, takes func(*kernel.Job) bool, tiles func(*kernel.Params, *kernel.Job) (added, size int), name string) {
	d := dispatch{kernel: name, batch: batch, first: len(l.jobs), offset: l.bytes}
	for k := range b.Jobs {
		if !takes(&b.Jobs[k]) {
			continue
		}
		n, size := tiles(&b.Params, &b.Jobs[k])
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

// tableTiles cuts a job at its blocks, and blocks that are larger than a tile.
func (l *layout) tableTiles(p *kernel.Params, j *kernel.Job) (added, size int) {
	before := len(l.table)
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
	rectangles(j, runLength, func(r, c, rows, cols int) {
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

func (l *layout) castTiles(p *kernel.Params, j *kernel.Job) (added, size int) {
	before := len(l.cast)
	for r := range j.Rows {
		for c := 0; c < j.Cols; c += runLength {
			l.cast = append(l.cast, castTile{
				src:   uint32(j.Src + (r*j.SrcStride+c)*int(p.From.Size())),
				dst:   uint32(j.Dst + p.OutAt(j, r, c)*int(p.To.Size())),
				count: uint32(min(runLength, j.Cols-c)),
			})
		}
	}
	return len(l.cast) - before, int(unsafe.Sizeof(castTile{}))
}

func transposed(p *kernel.Params) uint32 {
	if p.Transposed {
		return 1
	}
	return 0
}

// rectangles cuts a job into whole rows, or runs of a row, of at most n elements.
func rectangles(j *kernel.Job, n int, each func(r, c, rows, cols int)) {
	if j.Cols > n {
		for r := range j.Rows {
			for c := 0; c < j.Cols; c += n {
				each(r, c, 1, min(n, j.Cols-c))
			}
		}
		return
	}
	step := n / j.Cols
	for r := 0; r < j.Rows; r += step {
		each(r, 0, min(step, j.Rows-r), j.Cols)
	}
}

// part is a rectangle of a job as a job of its own, its results packed from dst on.
func part(p *kernel.Params, j *kernel.Job, r, c, rows, cols, dst int) kernel.Job {
	k := kernel.Job{
		Rows: rows, Cols: cols, Src: j.Src + (r*j.SrcStride+c)*int(p.From.Size()), SrcStride: j.SrcStride, Dst: dst, DstStride: cols,
	}
	if p.Transposed {
		k.DstStride = rows
	}
	if p.Op == kernel.Dequant {
		k.Scale = j.Scale + ((r+j.RowPhase)/p.BlockRows*j.ScaleStride+(c+j.ColPhase)/p.BlockCols)*int(p.ScaleType.Size())
		k.ScaleStride = j.ScaleStride
		k.RowPhase, k.ColPhase = (r+j.RowPhase)%p.BlockRows, (c+j.ColPhase)%p.BlockCols
	}
	return k
}
