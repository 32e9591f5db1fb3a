package engine

import (
	"fmt"
	"iter"

	"github.com/metalcast/metalcast/internal/kernel"
	"github.com/metalcast/metalcast/internal/plan"
)

// Sizes of the ring, measured: three stages with four slots of 16 MiB of codes are as fast as
// larger ones (docs/performance.md).
const (
	slots      = 4
	windowSize = 16 << 20
	minWindow  = 64 << 10
	maxGap     = 256 << 10 // unused bytes that are read rather than split a window
	scaleGap   = 16 << 10  // the same for scales that are read separately
	// The main read and long runs of results keep their file offset's position in a page, so that
	// aligned data stays aligned.
	Page    = 4 << 10
	LongRun = 512 << 10 // results that are written as one and bypass the page cache, in bytes
)

// Schedule is how a plan is cut into windows, in the source's order, and what a slot must hold for
// any of them. Windows are generated on demand, because a list of them would grow with the model.
type Schedule struct {
	Slots   int
	Count   int   // windows
	Bytes   int64 // of source tensors in all of them
	Before  int64 // of source tensors that earlier runs have done
	In, Out int   // bytes of a slot
	Jobs    int   // at most in a window

	plan     *plan.Plan
	size     int64 // bytes of codes in a window, at most
	beside   map[line][]int32
	skip     PieceSet
	fraction float64 // least fraction of the results that is left; 0: all
}

// Memory returns what the ring of slots needs, in bytes.
func (s *Schedule) Memory() int64 { return int64(min(s.Slots, s.Count)) * int64(s.In+s.Out) }

// Sample keeps just enough windows, spread evenly over the source, to cover a fraction of the
// results' bytes. The first window is always among them.
func (s *Schedule) Sample(fraction float64) {
	s.fraction = fraction
	all := s.Windows()
	s.Count, s.Bytes = 0, 0
	for w := range all {
		s.Count++
		s.Bytes += w.Bytes
	}
}

// Windows generates the windows one by one.
func (s *Schedule) Windows() iter.Seq[*Window] {
	return func(yield func(*Window) bool) {
		if s.fraction > 0 {
			every := yield
			var seen, left float64
			yield = func(w *Window) bool {
				written := float64(w.written())
				seen += written
				if left >= s.fraction*seen {
					return true
				}
				left += written
				return every(w)
			}
		}
		b := scheduler{plan: s.plan, size: s.size, beside: s.beside, yield: yield}
		for i := range s.plan.Pieces {
			if s.skip.Has(int32(i)) {
				continue
			}
			if b.add(int32(i)); b.stopped {
				return
			}
		}
		b.flush()
	}
}

// Window is a contiguous range of one source shard and the scales it needs; it is read, computed
// and written as one.
type Window struct {
	Reads    []Read
	Batches  []kernel.Batch
	Segments []Segment // of each job, in the order of the batches
	Writes   []Write
	Bytes    int64 // of source tensors, for progress
	// Completes lists the pieces whose last segment is in this window: they are done once it, and all
	// windows before it, are written. Pieces that fill the same lines come with the last of them.
	Completes []int32
	Inverted  []Reciprocals // computed before anything else

	in, out int // bytes of the slot in use
}

// written returns the bytes of the window's results.
func (w *Window) written() (n int64) {
	for _, x := range w.Writes {
		n += int64(x.N)
	}
	return n
}

// Read fills In[Buf:Buf+N] from a source shard.
type Read struct {
	Shard  int
	Off    int64
	Buf, N int
	Last   bool // none of it is read again, except for its ends and scales within it
}

// Segment says which rectangle of a piece a job computes.
type Segment struct {
	Piece    int32
	Row, Col int64 // its first element
}

// Write sends Out[Buf:Buf+N] to an output shard, or In if the bytes only moved.
type Write struct {
	Shard  int
	Off    int64
	Buf, N int
	Moved  bool
}

// NewSchedule splits a plan into windows that keep the ring of slots within memory bytes, which
// must be MinMemory(p) or more.
func NewSchedule(p *plan.Plan, memory int64) *Schedule {
	return NewScheduleAfter(p, memory, Progress{})
}

// NewScheduleAfter leaves out the pieces that earlier runs have done.
func NewScheduleAfter(p *plan.Plan, memory int64, earlier Progress) *Schedule {
	const unit = 1 << 20
	size := min(windowSize, ((memory/slots-fixed)*unit/slotFor(p, unit))&^(Page-1))
	if size < minWindow {
		panic(fmt.Sprintf("engine: internal error: %d bytes for the windows, below MinMemory %d", memory, MinMemory(p)))
	}
	s := &Schedule{Slots: slots, plan: p, size: size, beside: piecesBeside(p)}
	if len(earlier.Done) > 0 {
		done, ok := PieceSetOf(len(p.Pieces), earlier.Done)
		if !ok {
			panic("engine: internal error: an earlier run did pieces that the plan does not have")
		}
		s.skipDone(done)
	}
	var written int64
	for w := range s.Windows() {
		s.Count++
		s.Bytes += w.Bytes
		s.In, s.Out, s.Jobs = max(s.In, w.in), max(s.Out, w.out), max(s.Jobs, len(w.Segments))
		written += w.written()
	}
	s.check(memory, written)
	return s
}

// skipDone leaves out what is done. Pieces that fill the same lines are skipped together or done
// again together.
func (s *Schedule) skipDone(done PieceSet) {
	s.skip = NewPieceSet(len(s.plan.Pieces))
	for i := range s.plan.Pieces {
		p := &s.plan.Pieces[i]
		all := done.Has(int32(i))
		if p.Apart() {
			for _, k := range s.beside[lineOf(s.plan, p)] {
				all = all && done.Has(k)
			}
		}
		if all {
			s.skip.Add(int32(i))
			s.Before += p.InBytes()
		}
	}
}

// fixed is what a slot holds in addition: padding of the main read to its position in a page, and
// rounding.
const fixed = 2 * Page

// MinMemory returns the least memory, in bytes, that the ring of slots needs for a plan.
func MinMemory(p *plan.Plan) int64 {
	return slots * (fixed + slotFor(p, minWindow))
}

// slotFor returns the bytes of a slot for a number of bytes of codes: the codes, a quarter of that
// in scales, their reciprocals, results, and less than a page before each long run of results.
func slotFor(p *plan.Plan, codes int64) int64 {
	out := growth(p) * codes
	in := codes + codes/4
	if p.Invert {
		in += codes // reciprocals are float32, and the narrowest scales are one byte
	}
	return in + out + out*Page/LongRun
}

// growth returns the greatest number of output bytes per input byte. (A quarter of the input's
// bytes in scales comes on top of the input.)
func growth(p *plan.Plan) (g int64) {
	for i := range p.Pieces {
		if q := &p.Pieces[i].Params; q.Op != 0 {
			out := q.To.Size()
			if q.Op == kernel.Quantize {
				out = 2 // codes of 8 bits with two wide scales for 32 of them
			}
			g = max(g, (out+q.From.Size()-1)/q.From.Size())
		}
	}
	return g
}

// check asserts that the windows write every piece whole and stay within memory. A failure is a bug
// in this package.
func (s *Schedule) check(memory, written int64) {
	var want int64
	for i := range s.plan.Pieces {
		if !s.skip.Has(int32(i)) {
			want += s.plan.Pieces[i].OutBytes()
		}
	}
	if written != want {
		panic(fmt.Sprintf("engine: internal error: windows write %d bytes, the plan has %d", written, want))
	}
	if s.Memory() > memory {
		panic(fmt.Sprintf("engine: internal error: slots take %d bytes of %d", s.Memory(), memory))
	}
}
