package engine

import (
	"fmt"

	"github.com/metalcast/metalcast/internal/dtype"
	"github.com/metalcast/metalcast/internal/kernel"
	"github.com/metalcast/metalcast/internal/plan"
)

// tracer follows every byte of a plan's windows from its place in a source shard through the slot
// to its place in an output shard. It works out where an element belongs from the piece's
// documentation alone and shares nothing with the scheduler.
type tracer struct {
	plan *plan.Plan
	// Of each byte of each output shard, its header left out: the piece that makes it, plus one;
	// negative once it is written.
	owner  [][]int32
	left   []int64 // bytes of each piece that are not written
	done   []bool  // pieces that were said to be complete
	beside map[line][]int32
	from   []byteAt // where each byte of In was read
	to     []byteAt // where each byte of Out belongs
}

// byteAt is a byte of a shard; shard counts from one.
type byteAt struct {
	shard int
	off   int64
}

// newTracer demands that pieces fill every byte of every shard's data once, and nothing else.
func newTracer(p *plan.Plan) (*tracer, error) {
	t := &tracer{plan: p, left: make([]int64, len(p.Pieces)), done: make([]bool, len(p.Pieces)), beside: piecesBeside(p)}
	for _, s := range p.Shards {
		t.owner = append(t.owner, make([]int32, s.Size-int64(len(s.Header))))
	}
	for i := range p.Pieces {
		q := &p.Pieces[i]
		if q.InBytes() <= 0 || q.Rows < 1 || q.Cols < 1 {
			return nil, fmt.Errorf("piece %d of %q is empty", i, q.Source.Name)
		}
		mark := func(target int, from, n int64) error {
			x := &p.Tensors[target]
			if from < x.Offset || from+n > x.Offset+x.Size {
				return fmt.Errorf("piece %d of %q fills [%d, %d) outside %q [%d, %d)", i, q.Source.Name, from, from+n, x.Name, x.Offset, x.Offset+x.Size)
			}
			header := int64(len(p.Shards[x.Shard].Header))
			list := t.owner[x.Shard][from-header : from-header+n]
			for k := range list {
				if list[k] != 0 {
					return fmt.Errorf("byte %d of %q is made by pieces %d and %d", from+int64(k)-x.Offset, x.Name, list[k]-1, i)
				}
				list[k] = int32(i) + 1
			}
			t.left[i] += n
			return nil
		}
		size := int64(1)
		if q.Params.Op != 0 {
			size = q.Params.To.Size()
		}
		var err error
		switch {
		case q.Packed != nil:
			f := q.Params.Format
			groups := q.Rows * q.Cols / int64(f.GroupSize)
			err = mark(q.Target, q.Out, groups*int64(f.GroupSize*f.Bits/8))
			if err == nil {
				err = mark(q.Packed.Scales, q.Packed.ScalesOut, groups*f.ScaleType(q.Params.To).Size())
			}
			if err == nil && q.Packed.Biases >= 0 {
				err = mark(q.Packed.Biases, q.Packed.BiasesOut, groups*f.BiasType(q.Params.To).Size())
			}
		case q.Params.Transposed:
			for c := int64(0); c < q.Cols && err == nil; c++ {
				err = mark(q.Target, q.Out+c*q.Line*size, q.Rows*size)
			}
		default:
			err = mark(q.Target, q.Out, q.Rows*q.Cols*size)
		}
		if err != nil {
			return nil, err
		}
	}
	for i, s := range p.Shards {
		for k, o := range t.owner[i] {
			if o == 0 {
				return nil, fmt.Errorf("%s: byte %d of its data belongs to no piece", s.Name, k)
			}
		}
	}
	return t, nil
}

// window follows one window in slots of in and out bytes. sizes are the source shards'.
func (t *tracer) window(w *Window, in, out int, sizes []int64) error {
	if w.in > in || w.out > out {
		return fmt.Errorf("uses %d + %d bytes of a slot of %d + %d", w.in, w.out, in, out)
	}
	if err := kernel.Check(w.in, w.out, w.Batches, len(w.Segments)); err != nil {
		return err
	}
	from, to := blank(&t.from, w.in), blank(&t.to, w.out)
	for _, r := range w.Reads {
		if r.N < 1 || r.Off < 0 || r.Off+int64(r.N) > sizes[r.Shard] || r.Buf < 0 || r.Buf+r.N > w.in {
			return fmt.Errorf("read %+v of a shard of %d bytes into %d", r, sizes[r.Shard], in)
		}
		for k := range r.N {
			if from[r.Buf+k].shard != 0 {
				return fmt.Errorf("read %+v over another one", r)
			}
			from[r.Buf+k] = byteAt{r.Shard + 1, r.Off + int64(k)}
		}
	}
	for _, x := range w.Inverted { // each byte of a reciprocal comes from its scale's first
		for k := range 4 * x.N {
			if at := x.To + k; x.To%4 != 0 || at >= w.in || from[at].shard != 0 {
				return fmt.Errorf("reciprocals %+v over something else, or behind %d", x, w.in)
			}
			from[x.To+k] = from[x.From+k/4*int(x.Type.Size())]
		}
	}
	next := 0
	for i := range w.Batches {
		b := &w.Batches[i]
		for k := range b.Jobs {
			if err := t.job(&b.Params, &b.Jobs[k], &w.Segments[next], from, to); err != nil {
				return fmt.Errorf("%s: %+v, %+v: %w", b.Params, w.Segments[next], b.Jobs[k], err)
			}
			next++
		}
	}
	if next != len(w.Segments) {
		return fmt.Errorf("%d parts for %d jobs", len(w.Segments), next)
	}
	return t.writes(w, from, to)
}

func blank(list *[]byteAt, n int) []byteAt {
	if len(*list) < n {
		*list = make([]byteAt, n)
	}
	clear((*list)[:n])
	return (*list)[:n]
}

// job demands that a job reads its part of its piece, and notes where its results should go.
func (t *tracer) job(p *kernel.Params, j *kernel.Job, segment *Segment, from, to []byteAt) error {
	q := &t.plan.Pieces[segment.Piece]
	wanted := q.Params
	inverted := t.plan.Invert && q.Params.Scaled()
	if inverted {
		wanted.ScaleType = dtype.F32
	}
	if *p != wanted {
		return fmt.Errorf("its piece wants %s", wanted)
	}
	if segment.Row < 0 || segment.Col < 0 || segment.Row+int64(j.Rows) > q.Rows || segment.Col+int64(j.Cols) > q.Cols {
		return fmt.Errorf("outside its piece of %dx%d", q.Rows, q.Cols)
	}
	elem := p.From.Size()
	for r := range j.Rows {
		for c := range j.Cols {
			row, col := segment.Row+int64(r), segment.Col+int64(c)
			want := byteAt{q.Source.Shard + 1, q.Code + (row*q.Cols+col)*elem}
			at := int64(j.Src) + (int64(r)*int64(j.SrcStride)+int64(c))*elem
			for b := range elem {
				if got := from[at+b]; got != (byteAt{want.shard, want.off + b}) {
					return fmt.Errorf("element (%d, %d) is read from %+v, want %+v", r, c, got, want)
				}
			}
			if p.Scaled() {
				size := p.ScaleType.Size()
				want := byteAt{q.Scale.Shard + 1, q.Scales + ((q.Row+row)/int64(p.BlockRows)*q.ScaleCols+col/int64(p.BlockCols))*q.Params.ScaleType.Size()}
				at := int64(j.Scale) + int64((j.RowPhase+r)/p.BlockRows*j.ScaleStride+(j.ColPhase+c)/p.BlockCols)*size
				for b := range size {
					step := b
					if inverted {
						step = 0
					}
					if got := from[at+b]; got != (byteAt{want.shard, want.off + step}) {
						return fmt.Errorf("the scale of element (%d, %d) is read from %+v, want %+v", r, c, got, want)
					}
				}
			}
			if q.Packed != nil {
				continue
			}
			index := row*q.Cols + col
			if p.Transposed {
				index = col*q.Line + row
			}
			size := p.To.Size()
			if err := t.put(to, int64(j.Dst)+int64(p.OutAt(j, r, c))*size, q.Target, q.Out+index*size, size); err != nil {
				return err
			}
		}
	}
	if q.Packed == nil {
		return nil
	}
	return t.packed(p, j, segment, q, to)
}

// packed notes where the groups of a job that quantizes go.
func (t *tracer) packed(p *kernel.Params, j *kernel.Job, segment *Segment, q *plan.Piece, to []byteAt) error {
	f := p.Format
	first, n, long, whole := segment.Row*q.Cols+segment.Col, int64(j.Rows*j.Cols), j.Cols, j.Rows == 1 || int64(j.Cols) == q.Cols
	if p.Transposed {
		first, long, whole = segment.Col*q.Rows+segment.Row, j.Rows, j.Cols == 1 || int64(j.Rows) == q.Rows
	}
	group := int64(f.GroupSize)
	if !whole || first%group != 0 || n%group != 0 || int64(long)%group != 0 {
		return fmt.Errorf("not whole groups of %d", group)
	}
	code := int64(f.GroupSize * f.Bits / 8)
	if err := t.put(to, int64(j.Dst), q.Target, q.Out+first/group*code, n/group*code); err != nil {
		return err
	}
	size := f.ScaleType(p.To).Size()
	if err := t.put(to, int64(j.DstScale), q.Packed.Scales, q.Packed.ScalesOut+first/group*size, n/group*size); err != nil {
		return err
	}
	if q.Packed.Biases < 0 {
		return nil
	}
	return t.put(to, int64(j.DstBias), q.Packed.Biases, q.Packed.BiasesOut+first/group*size, n/group*size)
}

// put notes that n bytes at a place in Out belong at off of a target's shard.
func (t *tracer) put(to []byteAt, at int64, target int, off, n int64) error {
	for k := range n {
		if to[at+k].shard != 0 {
			return fmt.Errorf("byte %d of Out has two results", at+k)
		}
		to[at+k] = byteAt{t.plan.Tensors[target].Shard + 1, off + k}
	}
	return nil
}

// writes demands that everything goes to its place, once.
func (t *tracer) writes(w *Window, from, to []byteAt) error {
	for _, x := range w.Writes {
		s := &t.plan.Shards[x.Shard]
		if header := int64(len(s.Header)); x.N < 1 || x.Off < header || x.Off+int64(x.N) > s.Size {
			return fmt.Errorf("write %+v to a shard of %d bytes with a header of %d", x, s.Size, header)
		}
		list := t.owner[x.Shard][x.Off-int64(len(s.Header)):]
		for k := range x.N {
			off, o := x.Off+int64(k), list[k]
			if o <= 0 {
				return fmt.Errorf("write %+v: byte %d was written already", x, off)
			}
			q := &t.plan.Pieces[o-1]
			switch {
			case x.Moved != (q.Params.Op == 0):
				return fmt.Errorf("write %+v: byte %d is of piece %d", x, off, o-1)
			case x.Moved && from[x.Buf+k] != (byteAt{q.Source.Shard + 1, q.Code + off - q.Out}):
				return fmt.Errorf("write %+v: byte %d comes from %+v", x, off, from[x.Buf+k])
			case !x.Moved && to[x.Buf+k] != (byteAt{x.Shard + 1, off}):
				return fmt.Errorf("write %+v: byte %d is the result for %+v", x, off, to[x.Buf+k])
			}
			list[k] = -o
			t.left[o-1]--
		}
	}
	for _, i := range w.Completes {
		if t.left[i] != 0 || t.done[i] {
			return fmt.Errorf("piece %d is said to be complete, %d bytes are missing (said before: %v)", i, t.left[i], t.done[i])
		}
		t.done[i] = true
	}
	for _, i := range w.Completes { // or a resumed run would do it again, and count it again
		if q := &t.plan.Pieces[i]; q.Apart() {
			for _, k := range t.beside[lineOf(t.plan, q)] {
				if !t.done[k] {
					return fmt.Errorf("piece %d is said to be complete before %d, which fills the same lines", i, k)
				}
			}
		}
	}
	return nil
}

// end demands that nothing is left, and makes the tracer new.
func (t *tracer) end() error {
	for i := range t.done {
		if t.left[i] != 0 || !t.done[i] {
			return fmt.Errorf("piece %d: %d bytes are not written; said to be complete: %v", i, t.left[i], t.done[i])
		}
		t.done[i], t.left[i] = false, t.plan.Pieces[i].OutBytes()
	}
	for _, list := range t.owner {
		for k, o := range list {
			list[k] = max(o, -o)
		}
	}
	return nil
}

// trace follows all windows of size bytes, which may be smaller than any that a memory limit gives.
func trace(p *plan.Plan, sizes []int64, window int64) error {
	t, err := newTracer(p)
	if err != nil {
		return err
	}
	return t.run(&Schedule{Slots: slots, plan: p, size: window, beside: piecesBeside(p)}, sizes)
}

func (t *tracer) run(s *Schedule, sizes []int64) error {
	in, out := 0, 0
	for w := range s.Windows() {
		in, out = max(in, w.in), max(out, w.out)
	}
	if s.In > 0 {
		in, out = s.In, s.Out
	}
	for w := range s.Windows() {
		if err := t.window(w, in, out, sizes); err != nil {
			return fmt.Errorf("windows of %d: %w", s.size, err)
		}
	}
	if err := t.end(); err != nil {
		return fmt.Errorf("windows of %d: %w", s.size, err)
	}
	return nil
}
