package engine

import (
	"cmp"
	"slices"

	"github.com/metalcast/metalcast/internal/kernel"
	"github.com/metalcast/metalcast/internal/plan"
)

// scheduler collects the parts of one window at a time.
type scheduler struct {
	plan    *plan.Plan
	size    int64 // bytes of codes in a window
	yield   func(*Window) bool
	stopped bool

	parts  []part // of the window being collected
	scales int64  // bytes of their scales
}

// part is a rectangle of a piece: whole rows, or a run within one row. Moves count bytes as columns.
type part struct {
	piece            int32
	row, col         int64
	rows, cols       int64
	src, bytes       int64 // in the source shard
	scale, scaleSize int64 // in the scale's shard
	out, outBytes    int64 // in the output shard
}

// add cuts a piece into parts that fit a window.
func (b *scheduler) add(index int32) {
	p := &b.plan.Pieces[index]
	elem := int64(1)
	if p.Params.Op != 0 {
		elem = p.Params.From.Size()
	}
	row := p.Cols * elem
	if row > b.size || b.scaleRow(p) > b.size/8 { // a part may straddle two rows of the grid
		for r := range p.Rows {
			for c := int64(0); c < p.Cols; {
				n := min(p.Cols-c, b.size/elem, b.colsOfScales(p))
				b.append(p, part{piece: index, row: r, col: c, rows: 1, cols: n})
				c += n
			}
		}
		return
	}
	step := b.size / row
	if s := b.scaleRow(p); s > 0 {
		step = min(step, b.size/4/s*int64(p.Params.BlockRows))
	}
	if n := int64(p.Params.BlockRows); n > 0 && step > n {
		step -= step % n // whole blocks, so that no scale is read twice
	}
	for r := int64(0); r < p.Rows; r += step {
		b.append(p, part{piece: index, row: r, rows: min(step, p.Rows-r), cols: p.Cols})
	}
}

// scaleRow is the bytes of one row of a piece's scale grid.
func (b *scheduler) scaleRow(p *plan.Piece) int64 {
	if p.Params.Op != kernel.Dequant {
		return 0
	}
	return p.ScaleCols * p.Params.ScaleType.Size()
}

// colsOfScales is how many columns a quarter of a window's bytes in scales serves.
func (b *scheduler) colsOfScales(p *plan.Piece) int64 {
	if p.Params.Op != kernel.Dequant {
		return p.Cols
	}
	return max(1, b.size/4/p.Params.ScaleType.Size()-1) * int64(p.Params.BlockCols)
}

// append completes a part's ranges and adds it to the window, or begins a new one.
func (b *scheduler) append(p *plan.Piece, x part) {
	elem, outElem := int64(1), int64(1)
	if p.Params.Op != 0 {
		elem, outElem = p.Params.From.Size(), p.Params.To.Size()
	}
	first := x.row*p.Cols + x.col
	x.src, x.bytes = p.Code+first*elem, x.rows*x.cols*elem
	x.out, x.outBytes = p.Out+first*outElem, x.rows*x.cols*outElem
	if p.Params.Op == kernel.Dequant {
		x.scale, x.scaleSize = scaleRange(p, &x)
	}
	if n := len(b.parts); n > 0 {
		last := &b.parts[n-1]
		gap := x.src - (last.src + last.bytes)
		if b.plan.Pieces[last.piece].Source.Shard != p.Source.Shard || gap > maxGap ||
			x.src+x.bytes-b.parts[0].src > b.size || b.scales+x.scaleSize > b.size/4 {
			b.flush()
		}
	}
	b.parts = append(b.parts, x)
	b.scales += x.scaleSize
}

// scaleRange is the contiguous range of scales that serve a part.
func scaleRange(p *plan.Piece, x *part) (off, n int64) {
	br, bc, size := int64(p.Params.BlockRows), int64(p.Params.BlockCols), p.Params.ScaleType.Size()
	first := x.row/br*p.ScaleCols + x.col/bc
	last := (x.row+x.rows-1)/br*p.ScaleCols + (x.col+x.cols-1)/bc
	return p.Scales + first*size, (last - first + 1) * size
}

// flush turns the collected parts into a window.
func (b *scheduler) flush() {
	if len(b.parts) == 0 || b.stopped {
		return
	}
	first, last := &b.parts[0], &b.parts[len(b.parts)-1]
	main := Read{Shard: b.plan.Pieces[first.piece].Source.Shard, Off: first.src, Buf: int(first.src % page), N: int(last.src + last.bytes - first.src)}
	w := Window{Reads: []Read{main}}
	for i := range b.parts {
		w.Bytes += b.parts[i].bytes
	}
	var scaleAt []int
	scaleAt, w.in = b.readScales(&w, main)
	w.out = b.layOut(&w, main, scaleAt)
	b.parts, b.scales = b.parts[:0], 0
	b.stopped = b.stopped || !b.yield(&w)
}

// readScales finds every part's scales in In: inside the main read, or by further reads that take neighbours together. It gives their
// offsets and the bytes of In that are used.
func (b *scheduler) readScales(w *Window, main Read) (at []int, used int) {
	at = make([]int, len(b.parts))
	used = main.Buf + main.N
	var apart []int
	for i := range b.parts {
		x := &b.parts[i]
		switch p := &b.plan.Pieces[x.piece]; {
		case x.scaleSize == 0:
		case p.Scale.Shard == main.Shard && x.scale >= main.Off && x.scale+x.scaleSize <= main.Off+int64(main.N):
			at[i] = main.Buf + int(x.scale-main.Off)
		default:
			apart = append(apart, i)
		}
	}
	shard := func(i int) int { return b.plan.Pieces[b.parts[i].piece].Scale.Shard }
	slices.SortFunc(apart, func(i, j int) int {
		return cmp.Or(cmp.Compare(shard(i), shard(j)), cmp.Compare(b.parts[i].scale, b.parts[j].scale))
	})
	// The gaps that joining reads through are bounded like the scales themselves.
	spare := b.size/4 - b.scales
	for _, i := range apart {
		x := &b.parts[i]
		r := &w.Reads[len(w.Reads)-1]
		end := r.Off + int64(r.N)
		gap := x.scale - end
		if len(w.Reads) > 1 && r.Shard == shard(i) && gap <= min(scaleGap, spare) {
			if gap > 0 {
				spare -= gap
			}
			grow := int(max(0, x.scale+x.scaleSize-end))
			at[i] = r.Buf + int(x.scale-r.Off)
			r.N += grow
			used += grow
			continue
		}
		w.Reads = append(w.Reads, Read{Shard: shard(i), Off: x.scale, Buf: used, N: int(x.scaleSize)})
		at[i] = used
		used += int(x.scaleSize)
	}
	return at, used
}

// layOut orders the window's results as they lie in the output, so that neighbours leave in one write, and makes the jobs.
func (b *scheduler) layOut(w *Window, main Read, scaleAt []int) (used int) {
	order := make([]int, len(b.parts))
	for i := range order {
		order[i] = i
	}
	target := func(i int) int { return b.plan.Tensors[b.plan.Pieces[b.parts[i].piece].Target].Shard }
	slices.SortFunc(order, func(i, j int) int {
		return cmp.Or(cmp.Compare(target(i), target(j)), cmp.Compare(b.parts[i].out, b.parts[j].out))
	})
	dst := make([]int, len(b.parts))
	for _, i := range order {
		x := &b.parts[i]
		moved := b.plan.Pieces[x.piece].Params.Op == 0
		dst[i] = main.Buf + int(x.src-main.Off)
		if !moved {
			dst[i] = used
		}
		n := int(x.outBytes)
		k := len(w.Writes) - 1
		if k >= 0 && w.Writes[k].follows(target(i), x.out, dst[i], moved) {
			w.Writes[k].N += n
		} else {
			if !moved {
				e := int(b.plan.Pieces[x.piece].Params.To.Size())
				used = (used + e - 1) &^ (e - 1)
				dst[i] = used
			}
			w.Writes = append(w.Writes, Write{Shard: target(i), Off: x.out, Buf: dst[i], N: n, Moved: moved})
		}
		if !moved {
			used += n
		}
	}
	b.makeJobs(w, main, scaleAt, dst)
	return used
}

func (w *Write) follows(shard int, off int64, buf int, moved bool) bool {
	return w.Shard == shard && w.Moved == moved && w.Off+int64(w.N) == off && w.Buf+w.N == buf
}

// makeJobs groups the parts that compute by their Params; within a batch they keep the source's order.
func (b *scheduler) makeJobs(w *Window, main Read, scaleAt, dst []int) {
	var kinds []kernel.Params
	jobs := map[kernel.Params][]int{}
	for i := range b.parts {
		q := b.plan.Pieces[b.parts[i].piece].Params
		if q.Op == 0 {
			continue
		}
		if jobs[q] == nil {
			kinds = append(kinds, q)
		}
		jobs[q] = append(jobs[q], i)
	}
	for _, q := range kinds {
		batch := kernel.Batch{Params: q, Jobs: make([]kernel.Job, 0, len(jobs[q]))}
		for _, i := range jobs[q] {
			x := &b.parts[i]
			p := &b.plan.Pieces[x.piece]
			j := kernel.Job{
				Rows: int(x.rows), Cols: int(x.cols), Src: main.Buf + int(x.src-main.Off), SrcStride: int(x.cols),
				Dst: dst[i], DstStride: int(x.cols),
			}
			if q.Op == kernel.Dequant {
				j.Scale, j.ScaleStride = scaleAt[i], int(p.ScaleCols)
				j.RowPhase, j.ColPhase = int(x.row%int64(q.BlockRows)), int(x.col%int64(q.BlockCols))
			}
			batch.Jobs = append(batch.Jobs, j)
			w.Parts = append(w.Parts, Part{x.piece, x.row, x.col})
		}
		w.Batches = append(w.Batches, batch)
	}
}
