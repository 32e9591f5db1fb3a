package plan

import (
	"cmp"
	"fmt"
	"slices"
)

// fill is a result and its piece.
type fill struct {
	Result
	piece *Piece
}

// check asserts the invariants that the data plane relies on: every source byte that is not dropped
// lands exactly once, and pieces fill their tensors without gap or overlap. (Headers are checked by
// safetensors.Encode.) A failure is a bug in this package, never caused by a checkpoint.
func (p *Plan) check() {
	fail := func(format string, args ...any) {
		panic("plan: internal error: " + fmt.Sprintf(format, args...))
	}
	fills := make([]fill, 0, len(p.Pieces)) // most pieces have one result
	for i := range p.Pieces {
		var room [3]Result
		q := &p.Pieces[i]
		for _, r := range q.Results(room[:0], 0, 0, q.Rows, q.Cols) {
			fills = append(fills, fill{r, q})
		}
	}
	slices.SortFunc(fills, func(x, y fill) int { return cmp.Or(cmp.Compare(x.Target, y.Target), cmp.Compare(x.Out, y.Out)) })
	next := 0
	for i := range p.Tensors {
		t := &p.Tensors[i]
		at := t.Offset
		for next < len(fills) && fills[next].Target == i {
			x := fills[next]
			if x.Out != at {
				fail("%q: a piece of %q begins at %d, want %d", t.Name, x.piece.Source.Name, x.Out, at)
			}
			next++
			at += x.N
			if !x.piece.Apart() {
				continue
			}
			q := x.piece
			for filled := q.Rows; filled < q.Line; next++ { // others fill the rest of each line
				if next == len(fills) {
					fail("%q: a line ends at element %d of %d", t.Name, filled, q.Line)
				}
				y := fills[next]
				if y.Target != i || y.piece.Line != q.Line || y.piece.Cols != q.Cols || y.Out != x.Out+filled*t.DType.Size() || filled+y.piece.Rows > q.Line {
					fail("%q: a piece of %q does not fit beside one of %q", t.Name, y.piece.Source.Name, q.Source.Name)
				}
				filled += y.piece.Rows
				at += y.N
			}
		}
		if at != t.Offset+t.Size {
			fail("%q: pieces end at %d, want %d", t.Name, at, t.Offset+t.Size)
		}
	}
	for i := 1; i < len(p.Pieces); i++ {
		a, b := &p.Pieces[i-1], &p.Pieces[i]
		if a.Source.Shard == b.Source.Shard && a.Code+a.InBytes() > b.Code {
			fail("%q and %q overlap in the source", a.Source.Name, b.Source.Name)
		}
	}
	var used, dropped int64
	for i := range p.Pieces {
		used += p.Pieces[i].InBytes()
	}
	for _, d := range p.Dropped {
		dropped += d.Tensor.Size
	}
	if all := p.Source.Bytes(); used+dropped+p.scaleBytes != all {
		fail("%d bytes used, %d dropped, %d in scales; the source has %d", used, dropped, p.scaleBytes, all)
	}
}
