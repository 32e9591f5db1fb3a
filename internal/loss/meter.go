package loss

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"runtime"
	"slices"
	"sort"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/metalcast/metalcast/internal/checkpoint"
	"github.com/metalcast/metalcast/internal/dtype"
	"github.com/metalcast/metalcast/internal/engine"
	"github.com/metalcast/metalcast/internal/fault"
	"github.com/metalcast/metalcast/internal/mlxquant"
	"github.com/metalcast/metalcast/internal/pass"
	"github.com/metalcast/metalcast/internal/plan"
)

// meter is the Sink that receives the source's weights, in float32 and at their places in the
// MLX-native form, reads what the quantized checkpoint has for them, and sums the differences. It
// keeps a few sums for each tensor, and what it knows of groups that an extent has cut.
type meter struct {
	plan      *plan.Plan
	quantized *checkpoint.Inventory
	disk      *checkpoint.Source
	tensors   []*measured // for each tensor of the plan; nil if it is not quantized
	rooms     []*room     // for each goroutine
	found     []found     // for each section in flight
}

// sectionWeights is how many weights a goroutine processes at once: a multiple of every group size.
const sectionWeights = 32 << 10

// section is consecutive weights of a tensor, with their source in float32.
type section struct {
	first  int64
	source []byte
}

// room is what a goroutine needs for the groups of a section: codes of 8 bits, and widened scales
// for 32 of them.
type room struct {
	codes, scales, biases, narrow []byte
	weights                       []float32
}

// roomMemory is at least its size, in bytes.
const roomMemory = 6 * sectionWeights

func newRoom() *room {
	return &room{make([]byte, sectionWeights), make([]byte, sectionWeights/8), make([]byte, sectionWeights/8), make([]byte, sectionWeights/8), make([]float32, sectionWeights)}
}

// newMeter pairs the plan's tensors with the quantized ones.
func newMeter(p *plan.Plan, v *checkpoint.Inventory, modules map[string]*quantizedModule) (*meter, error) {
	m := &meter{plan: p, quantized: v, tensors: make([]*measured, len(p.Tensors))}
	for i := range p.Tensors {
		t := &p.Tensors[i]
		q := modules[t.Name]
		if q == nil {
			continue
		}
		if t.DType != dtype.F32 || !slices.Equal(t.Shape, q.shape) {
			return nil, fault.New(fault.ErrMismatch, q.codes.String(), "is quantized from %v, the source's is %s%v", q.shape, t.DType, t.Shape)
		}
		m.tensors[i] = &measured{quantizedModule: q, name: t.Name, open: map[int64]groupSums{}}
		delete(modules, t.Name)
	}
	if len(modules) > 0 {
		first := slices.Min(slices.Collect(maps.Keys(modules)))
		return nil, fault.New(fault.ErrMismatch, modules[first].codes.String(), "is quantized, and nothing in the source becomes it")
	}
	for range runtime.GOMAXPROCS(0) {
		m.rooms = append(m.rooms, newRoom())
	}
	return m, nil
}

// memory returns what the meter needs in addition to the plan, in bytes.
func (m *meter) memory() int64 {
	return int64(len(m.rooms))*roomMemory + int64(len(m.quantized.Tensors))*pass.TensorMemory
}

// Write measures extents, each of which may cover several tensors.
func (m *meter) Write(extents []engine.Extent) error {
	for _, x := range extents {
		if err := m.extent(x.Shard, x.Data, x.Off); err != nil {
			return err
		}
	}
	return nil
}

func (m *meter) extent(shard int, p []byte, off int64) error {
	list := m.plan.Tensors
	i := sort.Search(len(list), func(i int) bool {
		return list[i].Shard > shard || list[i].Shard == shard && list[i].Offset+list[i].Size > off
	})
	for ; len(p) > 0; i++ {
		t := &list[i]
		n := min(int64(len(p)), t.Offset+t.Size-off)
		if q := m.tensors[i]; q != nil {
			if err := m.take(q, (off-t.Offset)/4, p[:n]); err != nil {
				return err
			}
		}
		p, off = p[n:], off+n
	}
	return nil
}

// take measures consecutive weights of a tensor, starting with number first: in concurrent
// sections, whose sums are added in order.
func (m *meter) take(t *measured, first int64, source []byte) error {
	var sections []section
	for len(source) > 0 {
		n := min(int64(len(source)), 4*(sectionWeights-first%sectionWeights))
		sections = append(sections, section{first, source[:n]})
		source, first = source[n:], first+n/4
	}
	m.found = slices.Grow(m.found[:0], len(sections))[:len(sections)]
	var next atomic.Int64
	var g errgroup.Group
	for _, b := range m.rooms[:min(len(m.rooms), len(sections))] {
		g.Go(func() error {
			return fault.Recovered(func() error {
				for i := next.Add(1) - 1; i < int64(len(sections)); i = next.Add(1) - 1 {
					m.found[i] = m.measure(t, b, sections[i])
				}
				return nil
			})
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	for i := range m.found {
		f := &m.found[i]
		if f.err != nil {
			return f.err
		}
		t.sums.add(&f.sums)
		for k := range f.fragments {
			t.add(&f.fragments[k])
		}
	}
	return nil
}

// found is the result of a section: the sums of its whole groups, and the fragments of groups at
// its ends.
type found struct {
	sums      sums
	fragments [2]fragment
	err       error
}

// fragment is a part of a group; without weights it is none.
type fragment struct {
	group int64
	groupSums
}

// measure compares a section with what the quantized checkpoint has for it.
func (m *meter) measure(t *measured, b *room, s section) (f found) {
	size, n := int64(t.format.GroupSize), int64(len(s.source)/4)
	g0, g1 := s.first/size, (s.first+n+size-1)/size
	if f.err = m.dequantize(t, b, g0, g1-g0); f.err != nil {
		return f
	}
	for g := g0; g < g1; g++ {
		from, to := max(s.first, g*size), min(s.first+n, (g+1)*size)
		sum := difference(b.weights[from-g0*size:to-g0*size], s.source[4*(from-s.first):])
		switch whole := to-from == size; {
		case math.IsInf(sum.ref, 0) || math.IsNaN(sum.ref):
			f.err = fault.Corrupt(fmt.Sprintf("tensor %q, %s", t.name, t.where(g)), "NaN or infinite in the source")
			return f
		case math.IsInf(sum.err, 0) || math.IsNaN(sum.err):
			f.err = fault.In(m.quantized.Dir, fault.Corrupt(fmt.Sprintf("tensor %q, %s", t.name, t.where(g)), "NaN or infinite, which the source is not"))
			return f
		case whole:
			f.sums.group(g, sum)
		case g == g0:
			f.fragments[0] = fragment{g, sum}
		default:
			f.fragments[1] = fragment{g, sum}
		}
	}
	return f
}

// dequantize reads n groups from disk, and fills b.weights with what MLX's products take them for.
// Scales and biases are widened first, so that nothing is rounded to their type.
func (m *meter) dequantize(t *measured, b *room, group, n int64) error {
	read := func(from *checkpoint.Tensor, size int64, to []byte) error {
		if err := m.disk.ReadAt(from.Shard, to[:n*size], from.Offset+group*size); err != nil {
			return fault.In(m.quantized.Dir, err)
		}
		return nil
	}
	if err := read(t.codes, int64(t.format.GroupBytes()), b.codes); err != nil {
		return err
	}
	widened := func(from *checkpoint.Tensor, to []byte) error {
		if err := read(from, from.DType.Size(), b.narrow); err != nil {
			return err
		}
		wide := b.weights[:n] // overwritten by the weights later
		mlxquant.Widen(wide, b.narrow, from.DType)
		for i, v := range wide {
			little.PutUint32(to[4*i:], math.Float32bits(v))
		}
		return nil
	}
	if t.format.Mode != mlxquant.Affine {
		if err := read(t.scales, 1, b.scales); err != nil {
			return err
		}
	} else if err := cmp.Or(widened(t.scales, b.scales), widened(t.biases, b.biases)); err != nil {
		return err
	}
	t.format.Dequantize(b.weights[:n*int64(t.format.GroupSize)], b.codes, b.scales, b.biases, dtype.F32)
	return nil
}
