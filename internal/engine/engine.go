// Package engine is the data plane: it reads windows of the source, has a backend compute them, and
// writes the results to their final places. Three stages, each on its own goroutines, pass a fixed
// ring of slots around, so that reading, computing and writing overlap, and memory does not depend
// on the model's size. It decides nothing and, once started, keeps nothing that grows except its
// findings.
package engine

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/metalcast/metalcast/internal/fault"
	"github.com/metalcast/metalcast/internal/kernel"
	"github.com/metalcast/metalcast/internal/plan"
)

// Source reads source shards. ReadAt fills p or fails; only one goroutine calls it.
type Source interface {
	ReadAt(shard int, p []byte, off int64) error
}

// Forgetter is a Source that can use the knowledge that bytes will not be read again, for instance
// to drop them from the page cache.
type Forgetter interface {
	Forget(shard int, off, n int64)
}

// Extent is consecutive bytes of an output shard.
type Extent struct {
	Shard int
	Off   int64
	Data  []byte
}

// Sink receives the bytes of output shards. One goroutine calls Write, with all extents of a
// window, those of a shard next to each other. In a run each byte of a shard's data comes once, in
// no particular order. After Write returns, Data belongs to the engine again.
type Sink interface {
	Write(extents []Extent) error
}

// Keeper is a Sink that records what is written.
type Keeper interface {
	// Done reports that all results of these pieces are written, and what all pieces reported so far
	// held. Pieces come in no particular order.
	Done(pieces []int32, c *Counts) error
}

// Options matter only for checkpoints with NaNs, bad scales, overflows or weights that no model
// has.
type Options struct {
	KeepNaN       bool // count NaN codes and non-finite scales
	AllowOverflow bool // count finite values that become infinite
	AllowLarge    bool // count weights beyond MostWeight
	// Resumed has the counts of the pieces that an earlier run did; those of this run are added.
	Resumed Counts
	// Progress is called after each window with the source bytes done since the last call; may be nil.
	Progress func(bytes int64)
}

// Finding is what a source tensor held that a sound one does not, if the options allow it.
type Finding struct {
	Tensor string `json:"tensor"`
	// Tally has the first occurrences' positions in the tensor's last two dimensions.
	Tally kernel.Tally `json:"tally"`
	Large Large        `json:"large,omitzero"`
}

// Result is what a run counted; findings and groups are of whole pieces.
type Result struct {
	Read, Written int64     // bytes
	Findings      []Finding // including those of the run that this one resumes
	NVFP4         Groups
}

// Found is what a piece held that a sound one does not.
type Found struct {
	Piece int32        `json:"piece"`
	Tally kernel.Tally `json:"tally"`
	Large Large        `json:"large,omitzero"`
}

// Counts is what whole pieces held.
type Counts struct {
	Found []Found `json:"found,omitempty"`
	NVFP4 Groups  `json:"nvfp4"`
}

// Groups counts groups of nvfp4, whose scales cannot be small without a scale for the tensor.
type Groups struct {
	All    int64
	Zeroed int64 // scale zero: every weight of the group became zero
	Coarse int64 // scale subnormal: fewer than four significant bits
}

// Ring is the slots of a schedule on a backend, allocated once for any number of consecutive runs.
// The slots belong to the backend.
type Ring struct {
	be    kernel.Backend
	slots []*slot
}

// NewRing allocates the slots that a schedule needs.
func NewRing(s *Schedule, be kernel.Backend) (*Ring, error) {
	r := &Ring{be: be}
	for range min(s.Slots, s.Count) {
		mem, err := be.NewSlot(s.In, s.Out)
		if err != nil {
			return nil, fmt.Errorf("memory for a window of %d + %d bytes: %w", s.In, s.Out, err)
		}
		r.slots = append(r.slots, &slot{mem: mem, tallies: make([]kernel.Tally, s.Jobs), large: make([]Large, s.Jobs)})
	}
	return r, nil
}

// Holds reports whether the ring is large enough for a schedule.
func (r *Ring) Holds(s *Schedule) bool {
	if len(r.slots) < min(s.Slots, s.Count) {
		return false
	}
	for _, x := range r.slots {
		if len(x.mem.In()) < s.In || len(x.mem.Out()) < s.Out || len(x.tallies) < s.Jobs {
			return false
		}
	}
	return true
}

// Run executes the plan. It returns when everything is written, or at the first error or
// cancellation, once all stages have stopped.
func Run(ctx context.Context, p *plan.Plan, s *Schedule, ring *Ring, src Source, dst Sink, o Options) (Result, error) {
	be, slots := ring.be, len(ring.slots)
	r := runner{plan: p, src: src, dst: dst, be: be, opts: o, counter: newCounter(o.Resumed)}
	r.keeper, _ = dst.(Keeper)
	r.forget, _ = src.(Forgetter)
	free, toRun, toWrite := make(chan *slot, slots), make(chan *slot, slots), make(chan *slot, slots)
	running := make(chan struct{}, be.InFlight())
	for _, sl := range ring.slots {
		sl.computed = make(chan struct{}, 1) // a failed run may have left a message in the old one
		free <- sl
	}
	g, ctx := errgroup.WithContext(ctx)
	start := func(stage func() error) { g.Go(func() error { return fault.Recovered(stage) }) }
	start(func() error {
		defer close(toRun)
		for w := range s.Windows() {
			sl, err := take(ctx, free)
			if err != nil {
				return err
			}
			sl.window = w
			if err := r.read(sl); err != nil {
				return err
			}
			toRun <- sl // never blocks: there are no more slots than places
		}
		return nil
	})
	start(func() error { // windows are computed concurrently and passed on in order
		defer close(toWrite)
		return drain(ctx, toRun, func(sl *slot) error {
			select {
			case running <- struct{}{}:
			case <-ctx.Done():
				return ctx.Err()
			}
			start(func() error {
				defer func() { <-running }()
				if err := r.compute(ctx, sl); err != nil {
					return err
				}
				sl.computed <- struct{}{}
				return nil
			})
			toWrite <- sl
			return nil
		})
	})
	start(func() error {
		return drain(ctx, toWrite, func(sl *slot) error {
			select {
			case <-sl.computed:
			case <-ctx.Done():
				return ctx.Err()
			}
			if err := r.judgeAll(sl); err != nil {
				return err
			}
			r.counter.groups(sl)
			if err := r.write(sl); err != nil {
				return err
			}
			free <- sl
			return nil
		})
	})
	err := g.Wait()
	r.result.Findings, r.result.NVFP4 = r.counter.findings(p), r.counter.done.NVFP4
	return r.result, err
}

// slot is the memory of one window in flight.
type slot struct {
	mem     kernel.Slot
	window  *Window
	tallies []kernel.Tally
	large   []Large // of each job, like tallies

	computed chan struct{} // one message per window
}

func take(ctx context.Context, from <-chan *slot) (*slot, error) {
	select {
	case s := <-from:
		return s, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// drain processes a channel until it is closed or ctx ends.
func drain(ctx context.Context, from <-chan *slot, work func(*slot) error) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case s, ok := <-from:
			if !ok {
				return nil
			}
			if err := work(s); err != nil {
				return err
			}
		}
	}
}

type runner struct {
	plan   *plan.Plan
	src    Source
	dst    Sink
	be     kernel.Backend
	opts   Options
	keeper Keeper    // nil if dst is none
	forget Forgetter // nil if src is none

	result  Result   // Read by the reader, Written by the writer
	extents []Extent // only the writer uses it
	counter counter
}

// forgetLeast is the smallest read worth telling the system about, in bytes.
const forgetLeast = 64 << 10

func (r *runner) read(s *slot) error {
	in := s.mem.In()
	for _, x := range s.window.Reads {
		if err := r.src.ReadAt(x.Shard, in[x.Buf:x.Buf+x.N], x.Off); err != nil {
			return err
		}
		r.result.Read += int64(x.N)
		if r.forget != nil && x.Last && x.N >= forgetLeast {
			r.forget.Forget(x.Shard, x.Off, int64(x.N))
		}
	}
	return nil
}

func (r *runner) compute(ctx context.Context, s *slot) error {
	if len(s.window.Batches) == 0 {
		return nil
	}
	for i := range s.window.Inverted {
		s.window.Inverted[i].invert(s.mem.In())
	}
	measure(s.mem.In(), s.window.Batches, s.large)
	return r.be.Run(ctx, s.mem, s.window.Batches, s.tallies[:len(s.window.Segments)])
}

// judgeAll checks segments in the order of their pieces, whatever batch they are in: windows come
// in the source's order, so the tensor that an error names is the same for every window size and
// machine.
func (r *runner) judgeAll(s *slot) error {
	w := s.window
	var bad []int
	for i := range w.Segments {
		if s.tallies[i].Any() || s.large[i].N > 0 {
			bad = append(bad, i)
		}
	}
	slices.SortFunc(bad, func(i, j int) int {
		a, b := &w.Segments[i], &w.Segments[j]
		return cmp.Or(cmp.Compare(a.Piece, b.Piece), cmp.Compare(a.Row, b.Row), cmp.Compare(a.Col, b.Col))
	})
	for _, i := range bad {
		if err := r.judge(&w.Segments[i], s.tallies[i], s.large[i]); err != nil {
			return err
		}
	}
	return nil
}

func (r *runner) write(s *slot) error {
	w := s.window
	r.extents = r.extents[:0]
	for _, x := range w.Writes {
		from := s.mem.Out()
		if x.Moved {
			from = s.mem.In()
		}
		r.extents = append(r.extents, Extent{x.Shard, x.Off, from[x.Buf : x.Buf+x.N]})
		r.result.Written += int64(x.N)
	}
	if err := r.dst.Write(r.extents); err != nil {
		return err
	}
	r.counter.settle(w.Completes)
	if r.keeper != nil {
		if err := r.keeper.Done(w.Completes, &r.counter.done); err != nil {
			return err
		}
	}
	if r.opts.Progress != nil {
		r.opts.Progress(w.Bytes)
	}
	return nil
}

// judge refuses what the options do not allow, and records the rest as findings.
func (r *runner) judge(segment *Segment, t kernel.Tally, l Large) error {
	p := &r.plan.Pieces[segment.Piece]
	for _, s := range []*kernel.Spot{&t.NaN, &t.Scale, &t.Overflow, &l.Spot} {
		s.Row += int(segment.Row)
		s.Col += int(segment.Col)
		// The piece is one row of all elements.
		if n := len(p.Source.Shape); p.Rows == 1 && !p.Params.Scaled() && !p.Params.Transposed && n > 0 {
			last := int(p.Source.Shape[n-1])
			s.Row, s.Col = s.Col/last, s.Col%last
		}
		s.Row += int(p.Row)
	}
	where := p.Source.String()
	at := func(s kernel.Spot) string {
		if len(p.Source.Shape) > 2 {
			return fmt.Sprintf("row %d, column %d of matrix %d", s.Row, s.Col, p.Matrix)
		}
		return fmt.Sprintf("row %d, column %d", s.Row, s.Col)
	}
	if l.N > 0 && !r.opts.AllowLarge {
		return fault.Corrupt(where, "holds weights up to %.4g, the first beyond %d at %s, where no model has any", l.Most, MostWeight, at(l.Spot)).WithHint(
			"--scales trust converts as the file says")
	}
	const hint = "--nan-policy keep converts it all the same, NaN staying NaN"
	scale := "a scale that is NaN or infinite"
	if r.plan.Invert {
		scale = "a scale whose reciprocal is NaN or infinite"
	}
	if p.Packed != nil { // no code is NaN
		switch {
		case t.NaN.N > 0:
			return fault.Corrupt(where, "holds %d values that are NaN or infinite and cannot be quantized, the first at %s", t.NaN.N, at(t.NaN))
		case t.Scale.N > 0:
			return fault.Corrupt(p.Scale.String(), "holds %s, for the weight's %s, which cannot be quantized", scale, at(t.Scale))
		case t.Overflow.N > 0:
			return fault.Corrupt(where, "%d of its values are too large for %s and cannot be quantized, the first at %s", t.Overflow.N, p.Params.To.ConfigName(), at(t.Overflow))
		}
	}
	switch {
	case t.NaN.N > 0 && !r.opts.KeepNaN:
		return fault.Corrupt(where, "holds NaN codes (0x7F or 0xFF), the first at %s", at(t.NaN)).WithHint(hint)
	case t.Scale.N > 0 && !r.opts.KeepNaN:
		return fault.Corrupt(p.Scale.String(), "holds %s, at [%d, %d], for the weight's %s", scale,
			t.Scale.Row/p.Params.BlockRows, t.Scale.Col/p.Params.BlockCols, at(t.Scale)).WithHint(hint)
	case t.Overflow.N > 0 && !r.opts.AllowOverflow:
		return fault.Corrupt(where, "%d of its values are too large for %s, the first at %s", t.Overflow.N, p.Params.To.ConfigName(), at(t.Overflow)).WithHint(
			"choose another --dtype, or --allow-overflow to write infinities")
	}
	x := r.counter.of(segment.Piece)
	x.tally.Add(t)
	x.large.add(l)
	return nil
}
