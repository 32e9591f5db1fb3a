package synth

import (
	"cmp"
	"slices"
	"strconv"
	"strings"

	"github.com/metalcast/metalcast/internal/dtype"
	"github.com/metalcast/metalcast/internal/safetensors"
)

// kind is the kind of a tensor, which determines its dtype and its numbers.
type kind uint8

const (
	// a matrix that the release quantizes; so does synth, unless no FP8 is requested
	projection      kind = iota
	expert               // the same, of one expert
	stack                // the same, of all experts in one tensor
	matrix               // a matrix that is never quantized
	kernel               // the weights of a convolution, never quantized
	norm                 // the model adds 1 to these
	gatedNorm            // used as it is; F32 in the Qwen3.5 releases, BF16 in the Qwen3.6 ones
	layerNorm            // used as it is
	bias                 // any other vector
	decay                // A_log: log of a decay between about 0.5 and 15; F32 as gatedNorm
	timeStep             // dt_bias: softplus of it is a time step between about 0.001 and 0.2
	scale                // of a weight, or of its blocks
	activationScale      // a scalar
	powerOfTwo           // a scale that is one
	cacheScale           // a scalar, of the keys or values in a cache
	router               // a matrix that chooses experts, in F32
	correction           // a bias in F32
	shortDecay           // decay in BF16
)

// kinds has the dtype and range of each kind: uniform from mean - spread to mean + spread. FP8
// codes take all values but NaN; their standard deviation is about 100, so that of the weights is
// 0.02 to 0.05.
var kinds = [...]struct {
	dtype        dtype.DType
	mean, spread float32
}{
	projection: {dtype.F8E4M3, 0, 0.06}, expert: {dtype.F8E4M3, 0, 0.06}, stack: {dtype.F8E4M3, 0, 0.06}, // this is the range in BF16
	matrix: {dtype.BF16, 0, 0.06}, kernel: {dtype.BF16, 0, 0.5},
	norm: {dtype.BF16, 0, 0.1}, gatedNorm: {dtype.F32, 1, 0.1}, layerNorm: {dtype.BF16, 1, 0.1}, bias: {dtype.BF16, 0, 0.05},
	decay: {dtype.F32, 1, 1.7}, timeStep: {dtype.BF16, -4, 2.5},
	scale: {dtype.BF16, 3.5e-4, 1.5e-4}, activationScale: {dtype.BF16, 0.02, 0.01},
	powerOfTwo: {dtype.F32, 6e-4, 5e-4}, cacheScale: {dtype.F32, 0.05, 0.03},
	router: {dtype.F32, 0, 0.06}, correction: {dtype.F32, 0, 0.05}, shortDecay: {dtype.BF16, 1, 1.7},
}

func (k kind) isQuantized() bool { return kinds[k].dtype == dtype.F8E4M3 }

func (k kind) isScale() bool {
	return k == scale || k == powerOfTwo || k == activationScale || k == cacheScale
}

// tensor is an entry in a shard.
type tensor struct {
	safetensors.Tensor
	kind kind
	mtp  bool // belongs to a multi-token prediction head
}

func (t *tensor) bytes() int64 {
	n, _ := safetensors.Bytes(t.DType, t.Shape)
	return n
}

func (o Options) isFP8() bool { return !o.PerExpertBF16 && !o.Stacked }

// derive returns the tensors of a row: one, or a weight in FP8 and its scales.
func (o Options) derive(s spec) []tensor {
	entry := func(name string, k kind, t dtype.DType, shape []int64) tensor {
		return tensor{Tensor: safetensors.Tensor{Name: name, DType: t, Shape: shape}, kind: k}
	}
	switch {
	case s.kind == cacheScale && !o.isFP8():
		return nil
	case !s.kind.isQuantized():
		return []tensor{entry(s.name, s.kind, kinds[s.kind].dtype, s.shape)}
	case !o.isFP8():
		return []tensor{entry(s.name, s.kind, dtype.BF16, s.shape)}
	}
	d := o.family.dialect
	list := []tensor{
		entry(s.name, s.kind, dtype.F8E4M3, s.shape),
		entry(s.name+d.suffix, d.scales, o.ScaleType, d.shape(s.shape, int64(o.BlockSize))),
	}
	if o.ActivationScales {
		list = append(list, entry(d.activationName(s.name), activationScale, o.ScaleType, s.shape[:len(s.shape)-2]))
	}
	return list
}

// model is a checkpoint to write: its sizes, and its tensors in the order of their names.
type model struct {
	Options
	dims
	tensors []tensor
}

func newModel(o Options) (*model, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	d, err := o.choose()
	if err != nil {
		return nil, err
	}
	m := &model{Options: o, dims: d}
	for _, p := range o.family.parts(o, d) {
		if !p.layered {
			m.add(p.prefix, p)
		}
		for _, l := range p.layers {
			m.add(strings.Replace(p.prefix, "@", strconv.Itoa(l), 1), p)
		}
	}
	slices.SortFunc(m.tensors, func(a, b tensor) int { return cmp.Compare(a.Name, b.Name) })
	return m, nil
}

func (m *model) add(prefix string, p part) {
	for _, s := range p.rows {
		for e := range s.times() {
			one := s
			one.name = prefix + strings.Replace(s.name, "#", strconv.Itoa(e), 1)
			for _, t := range m.derive(one) {
				t.mtp = p.mtp
				m.tensors = append(m.tensors, t)
			}
		}
	}
}

func (m *model) bytes() (n int64) {
	for i := range m.tensors {
		n += m.tensors[i].bytes()
	}
	return n
}

// mlxRejects counts the tensors that mlx-lm's model does not have.
func (m *model) mlxRejects() (n int) {
	for i := range m.tensors {
		if m.family.rejects(m, &m.tensors[i]) {
			n++
		}
	}
	return n
}

// The tensors of an FP8 checkpoint that mlx-lm 0.32.2's model does not have. Each family has a
// rule.

// rejectsScales is the rule of most families: mlx-lm stacks the experts itself and drops the
// multi-token prediction head.
func rejectsScales(_ *model, t *tensor) bool { return t.kind.isScale() && !t.mtp }

// rejectsExperts is the rule of families whose experts mlx-lm knows only stacked.
func rejectsExperts(_ *model, t *tensor) bool {
	return (t.kind.isScale() || t.kind == expert) && !t.mtp
}

// rejectsMTP is the rule if mlx-lm dequantizes, and drops layer 61 whatever the number of layers.
func rejectsMTP(m *model, t *tensor) bool { return t.mtp && !t.kind.isScale() && m.layers != 61 }

// rejectsBoth is the rule if mlx-lm neither dequantizes nor drops.
func rejectsBoth(_ *model, t *tensor) bool { return t.mtp || t.kind.isScale() }

// rejectsNothing is the rule if mlx-lm dequantizes.
func rejectsNothing(*model, *tensor) bool { return false }
