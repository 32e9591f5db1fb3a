package engine

import (
	"cmp"
	"slices"

	"github.com/metalcast/metalcast/internal/dtype"
	"github.com/metalcast/metalcast/internal/kernel"
)

// region is a range of the output that one window computes: a result of one segment, or of a group
// of segments that fill the same lines.
type region struct {
	segments []int
	result   int // which of the segments' results
	shard    int
	off      int64 // in the output shard
	n        int64 // bytes in Out
}

// place is where a segment's results go in Out, in bytes, and their stride in elements.
type place struct {
	at     [3]int
	stride int
}

// layOut orders the window's results as they lie in the output, so that neighbours leave in one
// write, and makes the jobs.
func (b *scheduler) layOut(w *Window, scaleAt []int) (used int) {
	places := make([]place, len(b.segments))
	regions := b.regions()
	for k, g := range regions {
		first := &b.segments[g.segments[0]]
		p := &b.plan.Pieces[first.piece]
		moved := p.Params.Op == 0
		at, align := first.buf, 1
		if !moved {
			at, align = used, int(b.plan.Tensors[first.results[g.result].Target].DType.Size())
		}
		if last := len(w.Writes) - 1; first.strips == 1 && last >= 0 && at%align == 0 && w.Writes[last].follows(g.shard, g.off, at, moved) {
			w.Writes[last].N += int(g.n)
		} else {
			if !moved {
				at = (used + align - 1) &^ (align - 1)
				if n := b.runOf(regions[k:]); n > 0 && n >= LongRun {
					at = used + int((g.off-int64(used))&(Page-1))
				}
				used = at
			}
			strip := g.n / first.strips
			for c := range first.strips {
				w.Writes = append(w.Writes, Write{
					Shard: g.shard, Off: g.off + c*p.Line*p.Params.To.Size(), Buf: at + int(c*strip), N: int(strip), Moved: moved,
				})
			}
		}
		if !moved {
			used += int(g.n)
		}
		for _, i := range g.segments {
			x := &b.segments[i]
			places[i].at[g.result] = at + int(x.results[g.result].Out-g.off)
			places[i].stride = b.stride(x)
		}
	}
	b.makeJobs(w, scaleAt, places)
	return used
}

// runOf returns how many bytes of computed results, starting with the first of some regions, one
// write can take, provided they have the same position within a page in Out as in their file. It
// stops counting where the exact number no longer matters.
func (b *scheduler) runOf(regions []region) (n int64) {
	for _, g := range regions {
		x := &b.segments[g.segments[0]]
		p := &b.plan.Pieces[x.piece]
		if n > LongRun || p.Params.Op == 0 || x.strips > 1 || g.shard != regions[0].shard || g.off != regions[0].off+n ||
			g.off%b.plan.Tensors[x.results[g.result].Target].DType.Size() != 0 {
			break
		}
		n += g.n
	}
	return n
}

// stride returns the elements from one row of a segment's result to the next.
func (b *scheduler) stride(x *segment) int {
	switch p := &b.plan.Pieces[x.piece]; {
	case x.strips > 1:
		return int(x.rows)
	case p.Params.Transposed:
		return int(p.Line)
	}
	return int(x.cols)
}

// regions gathers the groups and sorts by place in the output.
func (b *scheduler) regions() []region {
	regions := make([]region, 0, len(b.segments))
	grouped := map[int32]int{}
	for i := range b.segments {
		x := &b.segments[i]
		if k, ok := grouped[x.group]; ok && x.group > 0 {
			g := &regions[k]
			g.segments = append(g.segments, i)
			g.off = min(g.off, x.results[0].Out)
			g.n += x.results[0].N
			continue
		}
		grouped[x.group] = len(regions)
		for k, r := range x.results[:x.filled] {
			regions = append(regions, region{segments: []int{i}, result: k, shard: b.plan.Tensors[r.Target].Shard, off: r.Out, n: r.N})
		}
	}
	slices.SortFunc(regions, func(x, y region) int { return cmp.Or(cmp.Compare(x.shard, y.shard), cmp.Compare(x.off, y.off)) })
	return regions
}

func (w *Write) follows(shard int, off int64, buf int, moved bool) bool {
	return w.Shard == shard && w.Moved == moved && w.Off+int64(w.N) == off && w.Buf+w.N == buf
}

// makeJobs groups the computing segments by their Params; within a batch they keep the order of the
// source.
func (b *scheduler) makeJobs(w *Window, scaleAt []int, places []place) {
	var kinds []kernel.Params
	jobs := map[kernel.Params][]int{}
	for i := range b.segments {
		q := b.plan.Pieces[b.segments[i].piece].Params
		if q.Op == 0 {
			continue
		}
		if b.plan.Invert && q.Scaled() {
			q.ScaleType = dtype.F32
		}
		if jobs[q] == nil {
			kinds = append(kinds, q)
		}
		jobs[q] = append(jobs[q], i)
	}
	for _, q := range kinds {
		batch := kernel.Batch{Params: q, Jobs: make([]kernel.Job, 0, len(jobs[q]))}
		for _, i := range jobs[q] {
			x := &b.segments[i]
			p := &b.plan.Pieces[x.piece]
			at := &places[i].at
			j := kernel.Job{
				Rows: int(x.rows), Cols: int(x.cols), Src: x.buf, SrcStride: int(x.cols),
				Dst: at[0], DstStride: places[i].stride, DstScale: at[1], DstBias: at[2],
			}
			if q.Scaled() {
				j.Scale, j.ScaleStride = scaleAt[i], int(p.ScaleCols)
				j.RowPhase, j.ColPhase = int((p.Row+x.row)%int64(q.BlockRows)), int(x.col%int64(q.BlockCols))
			}
			batch.Jobs = append(batch.Jobs, j)
			w.Segments = append(w.Segments, Segment{x.piece, x.row, x.col})
		}
		w.Batches = append(w.Batches, batch)
	}
}
