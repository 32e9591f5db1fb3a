package plan

import (
	"cmp"
	"fmt"
	"slices"
)

// check asserts the invariants that the data plane relies on: every source byte that is not dropped lands exactly once, and pieces fill their tensors without gap
// or overlap. (Headers are checked by safetensors.Encode.) A failure is a bug of this package, never of a checkpoint.
func (p *Plan) check() {
	fail := func(format string, args ...any) {
		panic("plan: internal error: " + fmt.Sprintf(format, args...))
	}
	order := make([]int, len(p.Pieces))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int {
		x, y := &p.Pieces[a], &p.Pieces[b]
		return cmp.Or(cmp.Compare(x.Target, y.Target), cmp.Compare(x.Out, y.Out))
	})
	next := 0
	for i := range p.Tensors {
		t := &p.Tensors[i]
		at := t.Offset
		for ; next < len(order) && p.Pieces[order[next]].Target == i; next++ {
			q := &p.Pieces[order[next]]
			if q.Out != at {
				fail("%q: a piece of %q begins at %d, want %d", t.Name, q.Source.Name, q.Out, at)
			}
			at += q.OutBytes()
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
