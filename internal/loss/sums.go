package loss

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"math"
	"strings"

	"github.com/metalcast/metalcast/internal/engine"
)

var little = binary.LittleEndian

// measured is a quantized tensor and what is known of it so far.
type measured struct {
	*quantizedModule
	name string
	sums sums
	open map[int64]groupSums // groups of which a fragment was seen
}

// groupSums are those of a group, or of a fragment of one.
type groupSums struct {
	err, ref float64 // of squares: of the differences, of the source's weights
	n        int64   // weights
	kept     bool    // a weight is not zero in the destination
}

// difference compares weights with the float32 of the source.
func difference(weights []float32, source []byte) groupSums {
	s := groupSums{n: int64(len(weights))}
	for i, w := range weights {
		x := float64(math.Float32frombits(little.Uint32(source[4*i:])))
		d := float64(w) - x
		s.err += float64(d * d)
		s.ref += float64(x * x)
		s.kept = s.kept || w != 0
	}
	return s
}

// add adds a fragment of a group, and the group once it is whole.
func (t *measured) add(p *fragment) {
	if p.n == 0 {
		return
	}
	s := t.open[p.group]
	s.err, s.ref, s.n, s.kept = s.err+p.err, s.ref+p.ref, s.n+p.n, s.kept || p.kept
	if s.n < int64(t.format.GroupSize) {
		t.open[p.group] = s
		return
	}
	delete(t.open, p.group)
	t.sums.group(p.group, s)
}

// sums are those of many groups.
type sums struct {
	err, ref float64
	weights  int64
	groups   int64
	zeroed   int64
	worst    [worstGroups]rated // in order
}

// worstGroups is how many groups of a tensor are named.
const worstGroups = 5

// rated is a group and how bad it is; without weights it is none.
type rated struct {
	group int64
	ratio float64
	groupSums
}

func ratio(err, ref float64) Ratio {
	if err == 0 {
		return 0
	}
	return Ratio(math.Sqrt(err / ref))
}

func (s *sums) group(index int64, g groupSums) {
	s.err += g.err
	s.ref += g.ref
	s.weights += g.n
	s.groups++
	if g.ref > 0 && !g.kept {
		s.zeroed++
	}
	s.rate(rated{index, float64(ratio(g.err, g.ref)), g})
}

// rate ranks a group among the worst; of two that are equally bad the first counts.
func (s *sums) rate(x rated) {
	for i := range s.worst {
		w := &s.worst[i]
		if w.n == 0 {
			*w = x
			return
		}
		if cmp.Or(cmp.Compare(w.ratio, x.ratio), cmp.Compare(x.group, w.group)) < 0 {
			*w, x = x, *w
		}
	}
}

func (s *sums) add(o *sums) {
	s.err += o.err
	s.ref += o.ref
	s.weights += o.weights
	s.groups += o.groups
	s.zeroed += o.zeroed
	for _, x := range o.worst {
		if x.n > 0 {
			s.rate(x)
		}
	}
}

func (s *sums) figures() Figures {
	return Figures{Weights: s.weights, RelativeRMSE: ratio(s.err, s.ref), MaxGroupError: Ratio(s.worst[0].ratio), Groups: s.groups, ZeroedGroups: s.zeroed}
}

// complete asserts that every weight was seen. A failure is a bug.
func (t *measured) complete() {
	want := int64(1)
	for _, n := range t.shape {
		want *= n
	}
	if t.sums.weights != want || len(t.open) > 0 {
		panic(fmt.Sprintf("metalcast: internal error: %d of the %d weights of %q were measured", t.sums.weights, want, t.name))
	}
}

// tensors returns how many tensors of the destination it consists of.
func (t *measured) tensors() int {
	if t.biases == nil {
		return 2
	}
	return 3
}

func (t *measured) report() Tensor {
	e := Tensor{Name: t.name, Format: t.format.String(), Shape: t.shape, Figures: t.sums.figures()}
	e.Layer, e.Module = moduleOf(t.name)
	for _, w := range t.sums.worst {
		if w.n == 0 {
			break
		}
		e.Worst = append(e.Worst, Group{
			Index: t.index(w.group), Where: t.where(w.group), RelativeError: Ratio(w.ratio),
			RMSE: math.Sqrt(w.err / float64(w.n)), RMS: math.Sqrt(w.ref / float64(w.n)),
		})
	}
	return e
}

// index returns the index of a group's first weight.
func (t *measured) index(group int64) []int64 {
	at := group * int64(t.format.GroupSize)
	list := make([]int64, len(t.shape))
	for i := len(list) - 1; i >= 0; i-- {
		list[i] = at % t.shape[i]
		at /= t.shape[i]
	}
	return list
}

// where describes a group's location in words.
func (t *measured) where(group int64) string {
	index := t.index(group)
	m := engine.Mismatch{Tensor: t.name, Index: index}
	last := index[len(index)-1] + int64(t.format.GroupSize) - 1
	return strings.Replace(m.Where(), "column ", "columns ", 1) + fmt.Sprintf("-%d", last)
}
