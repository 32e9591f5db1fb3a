package engine

import (
	"cmp"
	"slices"

	"github.com/metalcast/metalcast/internal/plan"
)

// scheduler collects the segments of one window at a time.
type scheduler struct {
	plan    *plan.Plan
	size    int64 // bytes of codes in a window
	beside  map[line][]int32
	yield   func(*Window) bool
	stopped bool

	segments []segment // of the window being collected
	reads    []Read    // of their codes
	codes    int64     // bytes of reads
	scales   int64     // bytes of their scales
	groups   int32     // made so far
	done     map[int32]bool
	left     map[line]int // pieces of a line that are not complete, while some are
}

// segment is a rectangle of a piece: whole rows, a run within one row, or any rectangle if the
// result is transposed. Moves count bytes as columns.
type segment struct {
	piece            int32
	row, col         int64
	rows, cols       int64
	src, bytes       int64 // in the source shard; bytes exclude what lies between rows
	scale, scaleSize int64 // in the scale's shard
	// What it fills: one region, or codes, scales and biases if rows are quantized.
	results [3]plan.Result
	filled  int // of them
	buf     int // of the first element in In
	// Segments of one group fill whole lines of a transposed target together; 0: none.
	group int32
	// Strips are runs of equal length that lie apart in the output, if a transposed segment fills no
	// whole lines; otherwise 1.
	strips int64
}

// add cuts a piece into segments that fit a window.
func (b *scheduler) add(index int32) {
	p := &b.plan.Pieces[index]
	if p.Params.Transposed {
		b.turn(index)
		return
	}
	elem := elemSize(p)
	row := p.Cols * elem
	if row > b.size || b.scaleRow(p) > b.size/8 { // a segment may straddle two rows of the grid
		for r := range p.Rows {
			for c := int64(0); c < p.Cols; {
				n := min(p.Cols-c, wholeGroups(b.size/elem, p), wholeGroups(b.colsOfScales(p), p))
				b.append(p, segment{piece: index, row: r, col: c, rows: 1, cols: n})
				c += n
			}
		}
		return
	}
	step := b.rowStep(p, b.size/row)
	for r := int64(0); r < p.Rows; r += step {
		b.append(p, segment{piece: index, row: r, rows: min(step, p.Rows-r), cols: p.Cols})
	}
}

// rowStep limits a number of rows by the scales they need, and rounds it to whole blocks, so that
// no scale is read twice.
func (b *scheduler) rowStep(p *plan.Piece, step int64) int64 {
	n := int64(p.Params.BlockRows)
	if s := b.scaleRow(p); s > 0 {
		room := b.size / 4
		if p.Row%n != 0 {
			room /= 2 // a segment starts inside a block and touches one more
		}
		step = min(step, room/s*n)
	}
	if n > 0 && step > n {
		step -= step % n
	}
	return step
}

// wholeGroups rounds a number of elements down to groups that are quantized together.
func wholeGroups(n int64, p *plan.Piece) int64 {
	if p.Packed == nil {
		return n
	}
	group := int64(p.Params.Format.GroupSize)
	return max(group, n-n%group)
}

func elemSize(p *plan.Piece) int64 {
	if p.Params.Op == 0 {
		return 1
	}
	return p.Params.From.Size()
}

// scaleRow returns the bytes of one row of a piece's scale grid.
func (b *scheduler) scaleRow(p *plan.Piece) int64 {
	if !p.Params.Scaled() {
		return 0
	}
	return p.ScaleCols * p.Params.ScaleType.Size()
}

// colsOfScales returns how many columns the scales in a quarter of a window's bytes serve.
func (b *scheduler) colsOfScales(p *plan.Piece) int64 {
	if !p.Params.Scaled() {
		return p.Cols
	}
	return max(1, b.size/4/p.Params.ScaleType.Size()-1) * int64(p.Params.BlockCols)
}

// append adds a segment to the window, or starts a new one.
func (b *scheduler) append(p *plan.Piece, x segment) {
	b.measure(p, &x)
	if len(b.segments) > 0 {
		if gap, ok := b.gap(p.Source.Shard, x.src); !ok || b.codes+gap+x.bytes > b.size || b.scales+x.scaleSize > b.size/4 {
			b.flush()
		}
	}
	b.take(p, x, true)
}

// measure computes a segment's ranges.
func (b *scheduler) measure(p *plan.Piece, x *segment) {
	elem := elemSize(p)
	first := x.row*p.Cols + x.col
	x.src, x.bytes = p.Code+first*elem, x.rows*x.cols*elem
	x.strips = 1
	x.filled = len(p.Results(x.results[:0], x.row, x.col, x.rows, x.cols))
	if p.Params.Scaled() {
		x.scale, x.scaleSize = scaleRange(p, x)
	}
}

// gap returns how far an offset lies behind what the window already reads; ok is false if one read
// cannot take both.
func (b *scheduler) gap(shard int, off int64) (gap int64, ok bool) {
	if len(b.reads) == 0 {
		return 0, false
	}
	last := &b.reads[len(b.reads)-1]
	gap = off - (last.Off + int64(last.N))
	return gap, last.Shard == shard && gap >= 0 && gap <= maxGap
}

// take adds a segment that fits, and what must be read for it; through allows reading through a gap
// before it.
func (b *scheduler) take(p *plan.Piece, x segment, through bool) {
	if x.cols == p.Cols || x.rows == 1 {
		x.buf = b.read(p.Source.Shard, x.src, x.bytes, through)
		b.reads[len(b.reads)-1].Last = true
	} else {
		elem := elemSize(p)
		for r := range x.rows { // a tile: its rows lie apart in the source, and without gaps in the slot
			at := b.read(p.Source.Shard, x.src+r*p.Cols*elem, x.cols*elem, false)
			if r == 0 {
				x.buf = at
			}
			b.reads[len(b.reads)-1].Last = false // other tiles are on the same pages
		}
	}
	b.segments = append(b.segments, x)
	b.scales += x.scaleSize
}

// read makes the window read n bytes, and returns their place in In.
func (b *scheduler) read(shard int, off, n int64, through bool) (buf int) {
	if gap, ok := b.gap(shard, off); ok && (gap == 0 || through) {
		last := &b.reads[len(b.reads)-1]
		buf = last.Buf + last.N + int(gap)
		last.N += int(gap + n)
		b.codes += gap + n
		return buf
	}
	if len(b.reads) == 0 {
		buf = int(off % Page)
	} else {
		last := &b.reads[len(b.reads)-1]
		buf = last.Buf + last.N
	}
	b.reads = append(b.reads, Read{Shard: shard, Off: off, Buf: buf, N: int(n)})
	b.codes += n
	return buf
}

// scaleRange returns the contiguous range of scales that serve a segment.
func scaleRange(p *plan.Piece, x *segment) (off, n int64) {
	br, bc, size := int64(p.Params.BlockRows), int64(p.Params.BlockCols), p.Params.ScaleType.Size()
	row := p.Row + x.row
	first := row/br*p.ScaleCols + x.col/bc
	last := (row+x.rows-1)/br*p.ScaleCols + (x.col+x.cols-1)/bc
	return p.Scales + first*size, (last - first + 1) * size
}

// flush turns the collected segments into a window.
func (b *scheduler) flush() {
	if len(b.segments) == 0 || b.stopped {
		return
	}
	w := Window{Reads: b.reads}
	for i := range b.segments {
		x := &b.segments[i]
		w.Bytes += x.bytes
		// Segments come in order.
		if p := &b.plan.Pieces[x.piece]; x.row+x.rows == p.Rows && x.col+x.cols == p.Cols {
			w.Completes = b.complete(w.Completes, x.piece)
		}
	}
	var scaleAt []int
	scaleAt, w.in = b.readScales(&w)
	if b.plan.Invert {
		w.in = b.invertScales(&w, scaleAt, w.in)
	}
	w.out = b.layOut(&w, scaleAt)
	b.segments, b.reads, b.codes, b.scales = b.segments[:0], nil, 0, 0
	b.stopped = b.stopped || !b.yield(&w)
}

// readScales places every segment's scales in In: within the first read, or by further reads that
// take neighbours together. It returns their offsets and how many bytes of In are used.
func (b *scheduler) readScales(w *Window) (at []int, used int) {
	at = make([]int, len(b.segments))
	main, codes := w.Reads[0], len(w.Reads)
	used = w.Reads[codes-1].Buf + w.Reads[codes-1].N
	var apart []int
	for i := range b.segments {
		x := &b.segments[i]
		switch p := &b.plan.Pieces[x.piece]; {
		case x.scaleSize == 0:
		case p.Scale.Shard == main.Shard && x.scale >= main.Off && x.scale+x.scaleSize <= main.Off+int64(main.N):
			at[i] = main.Buf + int(x.scale-main.Off)
		default:
			apart = append(apart, i)
		}
	}
	shard := func(i int) int { return b.plan.Pieces[b.segments[i].piece].Scale.Shard }
	slices.SortFunc(apart, func(i, j int) int {
		return cmp.Or(cmp.Compare(shard(i), shard(j)), cmp.Compare(b.segments[i].scale, b.segments[j].scale))
	})
	// The gaps that joined reads include are bounded like the scales themselves.
	spare := b.size/4 - b.scales
	for _, i := range apart {
		x := &b.segments[i]
		r := &w.Reads[len(w.Reads)-1]
		end := r.Off + int64(r.N)
		gap := x.scale - end
		if len(w.Reads) > codes && r.Shard == shard(i) && gap <= min(scaleGap, spare) {
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

// invertScales reserves a place for the reciprocals of every segment's scales, behind everything
// the slot reads.
func (b *scheduler) invertScales(w *Window, at []int, used int) int {
	used = (used + 3) &^ 3
	for i := range b.segments {
		x := &b.segments[i]
		if x.scaleSize == 0 {
			continue
		}
		t := b.plan.Pieces[x.piece].Params.ScaleType
		n := int(x.scaleSize / t.Size())
		w.Inverted = append(w.Inverted, Reciprocals{t, at[i], used, n})
		at[i] = used
		used += 4 * n
	}
	return used
}
