package kerneltest

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/metalcast/metalcast/internal/kernel"
	"github.com/stretchr/testify/require"
)

// A Rig runs windows on a backend, one at a time, in a slot that grows as needed.
type Rig struct {
	be   kernel.Backend
	slot kernel.Slot
}

// NewRig returns a Rig; the slot belongs to the backend.
func NewRig(be kernel.Backend) *Rig { return &Rig{be: be} }

// guard is the number of bytes after a window's Out that are checked too.
const guard = 256

// Check runs a window and compares every byte and tally with the reference.
func (r *Rig) Check(t testing.TB, w *Window) {
	t.Helper()
	r.grow(t, len(w.In), len(w.Out)+guard)
	copy(r.slot.In(), w.In)
	got := r.slot.Out()[:len(w.Out)+guard]
	clear(got[copy(got, w.Out):])
	want := bytes.Clone(got)
	wantTallies := Reference(w.In, want, w.Batches)
	tallies := make([]kernel.Tally, len(wantTallies))
	for i := range tallies {
		tallies[i].NaN.N = 99 // Run overwrites
	}
	require.NoError(t, r.be.Run(t.Context(), r.slot, w.Batches, tallies))
	if !bytes.Equal(want, got) {
		t.Fatal(explain(w, want, got))
	}
	require.Equal(t, wantTallies, tallies)
	require.True(t, bytes.Equal(w.In, r.slot.In()[:len(w.In)]), "input changed")
}

func (r *Rig) grow(t testing.TB, in, out int) {
	t.Helper()
	if r.slot != nil && len(r.slot.In()) >= in && len(r.slot.Out()) >= out {
		return
	}
	if r.slot != nil {
		in, out = max(in, 2*len(r.slot.In())), max(out, 2*len(r.slot.Out()))
	}
	s, err := r.be.NewSlot(in, out)
	require.NoError(t, err)
	require.Len(t, s.In(), in)
	require.Len(t, s.Out(), out)
	r.slot = s
}

// explainPacked is explain for one job that quantizes, or "" if the byte does not belong to it.
func explainPacked(p *kernel.Params, j *kernel.Job, at int, want, got []byte) string {
	_, cols, codes, scales, biases := p.Packed(j)
	size := int(p.Format.ScaleType(p.To).Size())
	for _, x := range []struct {
		name            string
		at, size, group int
	}{{"codes", j.Dst, int(codes), p.Format.GroupBytes()}, {"scale", j.DstScale, int(scales), size}, {"bias", j.DstBias, int(biases), size}} {
		if at < x.at || at >= x.at+x.size {
			continue
		}
		group := (at - x.at) / x.group
		first := x.at + group*x.group
		return fmt.Sprintf("%s of group %d of line %d: got %x, want %x (little-endian)", x.name, group%p.Format.Groups(cols), group/p.Format.Groups(cols),
			got[first:first+x.group], want[first:first+x.group])
	}
	return ""
}

// explain names the first difference by job, row and column.
func explain(w *Window, want, got []byte) string {
	at, n := -1, 0
	for i := range want {
		if want[i] != got[i] {
			if n++; at < 0 {
				at = i
			}
		}
	}
	for i := range w.Batches {
		p := w.Batches[i].Params
		size := int(p.To.Size())
		for k, j := range w.Batches[i].Jobs {
			if p.Op == kernel.Quantize {
				if s := explainPacked(&p, &j, at, want, got); s != "" {
					return fmt.Sprintf("%d bytes differ, the first in job %d of %s, %+v, %s", n, k, p, j, s)
				}
				continue
			}
			e := (at - j.Dst) / size
			row, col := e/j.DstStride, e%j.DstStride
			if p.Transposed {
				row, col = col, row
			}
			if at >= j.Dst && row < j.Rows && col < j.Cols {
				e := j.Dst + size*e
				from := int(p.From.Size())
				src := j.Src + from*(row*j.SrcStride+col)
				return fmt.Sprintf("%d bytes differ, the first in job %d of %s, %+v, row %d, column %d: from %x got %x, want %x (little-endian)",
					n, k, p, j, row, col, w.In[src:src+from], got[e:e+size], want[e:e+size])
			}
		}
	}
	return fmt.Sprintf("%d bytes differ, the first at byte %d of Out, which no job covers", n, at)
}
