package kerneltest

import (
	"encoding/binary"
	"math/rand/v2"
	"slices"

	"github.com/metalcast/metalcast/internal/dtype"
	"github.com/metalcast/metalcast/internal/kernel"
)

// Window is the contents of a slot and the jobs to run in it. Padding in In is random, and so are
// all bytes of Out before the run, so that stray reads and writes are detected.
type Window struct {
	In, Out []byte
	Batches []kernel.Batch
	rng     *rand.Rand
}

// NewWindow returns an empty window; everything random in it comes from seed.
func NewWindow(seed uint64) *Window {
	return &Window{rng: rand.New(rand.NewPCG(seed, 1))}
}

// Layout is the geometry of a job to add: what surrounds its operands.
type Layout struct {
	Rows, Cols         int
	RowPhase, ColPhase int
	// bytes before the source and the scales, so that they are unaligned
	Shift                    int
	SrcGap, DstGap, ScaleGap int    // elements between rows
	Codes                    []byte // the first source elements, row by row; the others are random
	// bits of the scale type, row by row; if empty, small random scales
	Scales         []uint32
	Dst, DstStride int  // the destination, if DstStride > 0
	NewBatch       bool // start a batch even if the last one has the same Params
}

// Add appends a job and its operands, to the last batch if that has the same Params.
func (w *Window) Add(p kernel.Params, l Layout) *kernel.Job {
	j := kernel.Job{Rows: l.Rows, Cols: l.Cols, RowPhase: l.RowPhase, ColPhase: l.ColPhase, SrcStride: l.Cols + l.SrcGap}
	from := p.From.Size()
	w.pad(l.Shift)
	j.Src = len(w.In)
	w.pad(int(from) * ((l.Rows-1)*j.SrcStride + l.Cols))
	for i := range min(len(l.Codes)/int(from), l.Rows*l.Cols) {
		at := j.Src + int(from)*(i/l.Cols*j.SrcStride+i%l.Cols)
		copy(w.In[at:at+int(from)], l.Codes[i*int(from):])
	}
	if p.Scaled() {
		w.addScales(p, l, &j)
	}
	if p.Op == kernel.Quantize {
		w.placePacked(p, l, &j)
	} else {
		w.place(p, l, &j)
	}
	if n := len(w.Batches); n == 0 || w.Batches[n-1].Params != p || l.NewBatch {
		w.Batches = append(w.Batches, kernel.Batch{Params: p})
	}
	b := &w.Batches[len(w.Batches)-1]
	b.Jobs = append(b.Jobs, j)
	return &b.Jobs[len(b.Jobs)-1]
}

func (w *Window) addScales(p kernel.Params, l Layout, j *kernel.Job) {
	down, across := p.Blocks(j)
	w.pad(l.Shift)
	j.Scale, j.ScaleStride = len(w.In), across+l.ScaleGap
	w.pad(int(p.ScaleType.Size()) * ((down-1)*j.ScaleStride + across))
	for i := range down * across {
		bits := w.smallScale(p.ScaleType)
		if len(l.Scales) > 0 {
			bits = l.Scales[i%len(l.Scales)]
		}
		w.setScale(p, j, i/across, i%across, bits)
	}
}

// smallScale draws a scale between 2^-27 and 8, from float16's normal numbers.
func (w *Window) smallScale(t dtype.DType) uint32 {
	r, e := w.rng.Uint32(), uint32(100+w.rng.IntN(30))
	switch t {
	case dtype.F8E8M0:
		return e
	case dtype.F16:
		return r&0x83FF | (1+e%18)<<10
	case dtype.BF16:
		return r>>16&0x807F | e<<7
	}
	return r&0x807FFFFF | e<<23
}

func (w *Window) setScale(p kernel.Params, j *kernel.Job, down, across int, bits uint32) {
	size := int(p.ScaleType.Size())
	store(w.In[j.Scale+size*(down*j.ScaleStride+across):], bits, size)
}

// place sets a job's destination: the one in the layout, or a new one after all others.
func (w *Window) place(p kernel.Params, l Layout, j *kernel.Job) {
	to := int(p.To.Size())
	lines, length := l.Rows, l.Cols
	if p.Transposed {
		lines, length = length, lines
	}
	j.Dst, j.DstStride = l.Dst, l.DstStride
	if l.DstStride == 0 {
		j.Dst = (len(w.Out) + to - 1 + to*l.DstGap) / to * to
		j.DstStride = length + l.DstGap
	}
	w.Out = w.random(w.Out, j.Dst+to*((lines-1)*j.DstStride+length+l.DstGap)-len(w.Out))
}

// placePacked places a job's codes, scales and biases separately, in any order, DstGap units and
// some bytes apart.
func (w *Window) placePacked(p kernel.Params, l Layout, j *kernel.Job) {
	_, _, codes, scales, biases := p.Packed(j)
	unit := int(p.Format.ScaleType(p.To).Size())
	parts := []struct {
		at         *int
		size, unit int
	}{{&j.Dst, int(codes), 4}, {&j.DstScale, int(scales), unit}, {&j.DstBias, int(biases), unit}}
	for _, i := range w.rng.Perm(3) {
		x := parts[i]
		if x.size == 0 {
			continue
		}
		*x.at = (len(w.Out) + x.unit - 1 + x.unit*l.DstGap) / x.unit * x.unit
		w.Out = w.random(w.Out, *x.at+x.size-len(w.Out))
	}
	w.Out = w.random(w.Out, l.DstGap)
}

// pad appends n random bytes to In.
func (w *Window) pad(n int) { w.In = w.random(w.In, n) }

func (w *Window) random(b []byte, n int) []byte {
	if n > 0 {
		b = slices.Grow(b, n)
	}
	for ; n >= 8; n -= 8 {
		b = binary.LittleEndian.AppendUint64(b, w.rng.Uint64())
	}
	for ; n > 0; n-- {
		b = append(b, byte(w.rng.Uint32()))
	}
	return b
}
