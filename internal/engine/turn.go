package engine

import "github.com/metalcast/metalcast/internal/plan"

// line identifies the lines of a transposed target that several pieces fill side by side: gate and
// up of an expert.
type line struct {
	target int
	first  int64 // which matrix of the target
}

func lineOf(p *plan.Plan, q *plan.Piece) line {
	e := q.Params.To.Size()
	return line{q.Target, (q.Out - p.Tensors[q.Target].Offset) / (q.Line * q.Cols * e)}
}

// piecesBeside returns, for every such line, its pieces in the source's order.
func piecesBeside(p *plan.Plan) map[line][]int32 {
	var m map[line][]int32
	for i := range p.Pieces {
		if q := &p.Pieces[i]; q.Apart() {
			if m == nil {
				m = map[line][]int32{}
			}
			l := lineOf(p, q)
			m[l] = append(m[l], int32(i))
		}
	}
	return m
}

// turn cuts a piece whose result is transposed, together with those that fill the same lines, so
// that the window writes long runs: whole if it fits; otherwise in tiles of whole lines; otherwise,
// in windows too small for one line, in tiles whose columns are written one by one.
func (b *scheduler) turn(index int32) {
	if b.done[index] {
		delete(b.done, index)
		return
	}
	group := []int32{index}
	if p := &b.plan.Pieces[index]; p.Apart() {
		group = b.beside[lineOf(b.plan, p)]
		for _, i := range group {
			if i != index {
				if b.done == nil {
					b.done = map[int32]bool{}
				}
				b.done[i] = true
			}
		}
	}
	var rows, scales, filled int64
	for _, i := range group {
		p := &b.plan.Pieces[i]
		rows += p.Rows
		filled += p.Rows
		if s := b.scaleRow(p); s > 0 {
			n := int64(p.Params.BlockRows)
			scales += ((p.Row%n+p.Rows-1)/n + 1) * s
		}
	}
	first := &b.plan.Pieces[group[0]]
	elem := elemSize(first)
	cols := b.size / elem / rows
	if scales > b.size/4 || cols < 1 || filled != first.Line {
		for _, i := range group {
			b.tile(i)
		}
		return
	}
	if cols >= first.Cols {
		b.together(group, 0, first.Cols)
		return
	}
	cols = wholeBlocks(cols, first)
	for c := int64(0); c < first.Cols; c += cols {
		b.together(group, c, min(cols, first.Cols-c))
	}
}

// complete adds the pieces that are complete with this one: only itself, or, with the last of those
// that fill the same lines, all of them.
func (b *scheduler) complete(list []int32, index int32) []int32 {
	p := &b.plan.Pieces[index]
	if !p.Apart() {
		return append(list, index)
	}
	l := lineOf(b.plan, p)
	group := b.beside[l]
	n, begun := b.left[l]
	if !begun {
		n = len(group)
	}
	if n--; n > 0 {
		if b.left == nil {
			b.left = map[line]int{}
		}
		b.left[l] = n
		return list
	}
	delete(b.left, l)
	return append(list, group...)
}

// wholeBlocks rounds a number of columns down to whole scale blocks, if there are any.
func wholeBlocks(cols int64, p *plan.Piece) int64 {
	if n := int64(p.Params.BlockCols); n > 0 && cols > n {
		return cols - cols%n
	}
	return cols
}

// together adds all rows of a group's pieces, from column col on, to one window.
func (b *scheduler) together(group []int32, col, cols int64) {
	b.groups++
	segments := make([]segment, 0, len(group))
	var bytes, scales int64
	for _, i := range group {
		p := &b.plan.Pieces[i]
		x := segment{piece: i, col: col, rows: p.Rows, cols: cols, group: b.groups}
		b.measure(p, &x)
		bytes += x.bytes
		scales += x.scaleSize
		segments = append(segments, x)
	}
	// Pieces of a group may be far apart; the bytes between them are read only if they are few.
	if room := int64(len(group)) * maxGap; b.codes > 0 && (b.codes+bytes+room > b.size || b.scales+scales > b.size/4) {
		b.flush()
	}
	for k, x := range segments {
		p := &b.plan.Pieces[group[k]]
		gap, _ := b.gap(p.Source.Shard, x.src)
		b.take(p, x, b.codes+gap+bytes <= b.size)
		bytes -= x.bytes
	}
}

// tile adds a piece in rectangles that fill no whole lines.
func (b *scheduler) tile(index int32) {
	p := &b.plan.Pieces[index]
	size := b.size / elemSize(p)
	rows := b.rowStep(p, min(p.Rows, size))
	if b.scaleRow(p) > b.size/8 {
		rows = 1
	}
	cols := min(p.Cols, max(1, size/rows))
	if rows == 1 {
		cols = min(cols, b.colsOfScales(p))
	}
	if p.Packed != nil { // groups run down the columns
		rows, cols = wholeGroups(rows, p), 1
	}
	for r := int64(0); r < p.Rows; r += rows {
		for c := int64(0); c < p.Cols; c += cols {
			x := segment{piece: index, row: r, col: c, rows: min(rows, p.Rows-r), cols: min(cols, p.Cols-c)}
			b.measure(p, &x)
			x.strips = x.cols
			b.flush()
			b.take(p, x, true)
		}
	}
}
