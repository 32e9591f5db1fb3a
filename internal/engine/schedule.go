package engine

import (
	"fmt"
	"iter"

	"github.com/metalcast/metalcast/internal/kernel"
	"github.com/metalcast/metalcast/internal/plan"
)

// Sizes of the ring, measured: three stages with four slots of 16 MiB of codes are as fast as larger ones (docs/performance.md).
const (
	slots      = 4
	windowSize = 16 << 20
	minWindow  = 64 << 10
	maxGap     = 256 << 10 // unused bytes that are read through rather than split a window
	scaleGap   = 16 << 10  // the same for scales that are read apart
	Page       = 4 << 10   // the main read and long runs of results keep their file offset's place in a page, so that aligned data stays aligned
	LongRun    = 512 << 10 // bytes of results that are written as one and go past the page cache
)

// Schedule is how a plan is cut into windows, in the source's order, and what a slot must hold for any of them. Windows are made as they are needed, for a
// list of them would grow with the model.
type Schedule struct {
	Slots   int
	Count   int   // windows
	Bytes   int64 // of source tensors in all of them
	Before  int64 // of source tensors that an earlier run has done
	In, Out int   // bytes of a slot
	Jobs    int   // at most in a window

	plan   *plan.Plan
	size   int64 // bytes of codes in a window, at most
	beside map[line][]int32
	skip   PieceSet
	part   float64 // of the results that is left, at least; 0: all
}

// Memory is what the ring of slots takes, in bytes.
func (s *Schedule) Memory() int64 { return int64(min(s.Slots, s.Count)) * int64(s.In+s.Out) }

// Sample leaves only a part of the windows, spread over the source: the first, and each without which what is left would be less than part of the results' bytes so far.
func (s *Schedule) Sample(part float64) {
	s.part = part
	all := s.Windows()
	s.Count, s.Bytes = 0, 0
	for w := range all {
		s.Count++
		s.Bytes += w.Bytes
	}
}

// Windows makes the windows, one after the other.
func (s *Schedule) Windows() iter.Seq[*Window] {
	return func(yield func(*Window) bool) {
		if s.part > 0 {
			every := yield
			var seen, left float64
			yield = func(w *Window) bool {
				written := float64(w.written())
				seen += written
				if left >= s.part*seen {
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

// Window is a contiguous run of one source shard and the scales it needs, read, computed and written as one.
type Window struct {
	Reads   []Read
	Batches []kernel.Batch
	Parts   []Part // of each job, in the order of the batches
	Writes  []Write
	Bytes   int64 // of source tensors, for progress
	// Completes lists the pieces whose last part the window has: once it is written, and those before it, they are. Pieces that fill the same lines come with the
	// last of them.
	Completes []int32
	Inverted  []Reciprocals // to be made before anything is computed

	in, out int // bytes of the slot that are used
}

// written is the bytes of the window's results.
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
	Last   bool // nothing of it is read again, but for the ends and scales among it
}

// Part says which rectangle of a piece a job is.
type Part struct {
	Piece    int32
	Row, Col int64 // its first element
}

// Write sends Out[Buf:Buf+N], or In where bytes only moved, to an output shard.
type Write struct {
	Shard  int
	Off    int64
	Buf, N int
	Moved  bool
}

// NewSchedule splits a plan into windows that keep the ring of slots within memory bytes, which must be MinMemory(p) or more.
func NewSchedule(p *plan.Plan, memory int64) *Schedule {
	return NewScheduleAfter(p, memory, Progress{})
}

// NewScheduleAfter leaves out the pieces that an earlier run has done.
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
		s.In, s.Out, s.Jobs = max(s.In, w.in), max(s.Out, w.out), max(s.Jobs, len(w.Parts))
		written += w.written()
	}
	s.check(memory, written)
	return s
}

// skipDone leaves out what is done. Pieces that fill the same lines are done together or again.
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

// fixed is what a slot holds besides: the main read's place in its page, and rounding.
const fixed = 2 * Page

// MinMemory is the least memory, in bytes, that the ring of slots needs for a plan.
func MinMemory(p *plan.Plan) int64 {
	return slots * (fixed + slotFor(p, minWindow))
}

// slotFor is what a slot takes for some bytes of codes: them, a quarter in scales, their reciprocals, results, and less than a page before each long run of results.
func slotFor(p *plan.Plan, codes int64) int64 {
	out := growth(p) * codes
	in := codes + codes/4
	if p.Invert {
		in += codes // reciprocals are in float32, and the narrowest scales are of one byte
	}
	return in + out + out*Page/LongRun
}

// growth is the output bytes for each input byte, at most. (A quarter of the input's bytes in scales comes on top of the input.)
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

// check asserts that the windows write every piece whole and stay within memory. A failure is a bug of this package.
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
