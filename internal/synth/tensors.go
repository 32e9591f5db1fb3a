package synth

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/metalcast/metalcast/internal/dtype"
	"github.com/metalcast/metalcast/internal/safetensors"
)

// kind is what a tensor is: it decides its dtype and its numbers.
type kind uint8

const (
	projection      kind = iota // a matrix that the release quantizes; here too, unless no FP8 is asked for
	expert                      // the same, of one expert
	stack                       // all experts' projections in one tensor
	matrix                      // a matrix that is never quantized
	kernel                      // the weights of a convolution, never quantized
	norm                        // the model adds 1 to these
	gatedNorm                   // used as it is; F32 in the Qwen3.5 releases, BF16 in the Qwen3.6 ones
	layerNorm                   // of the vision tower, used as it is
	bias                        // of the vision tower
	decay                       // A_log: log of a decay between about 0.5 and 15; F32 as gatedNorm
	timeStep                    // dt_bias: softplus of it is a time step between about 0.001 and 0.2
	scale                       // of a weight's blocks
	activationScale             // a scalar
)

// kinds gives each its dtype and range: mean - spread to mean + spread, evenly. FP8 codes take all values but NaN; their standard deviation
// is about 100, so that weights have one of 0.02 to 0.05.
var kinds = [...]struct {
	dtype        dtype.DType
	mean, spread float32
}{
	projection: {dtype.F8E4M3, 0, 0.06}, expert: {dtype.F8E4M3, 0, 0.06}, // the range is the one in BF16
	stack: {dtype.BF16, 0, 0.06}, matrix: {dtype.BF16, 0, 0.06}, kernel: {dtype.BF16, 0, 0.5},
	norm: {dtype.BF16, 0, 0.1}, gatedNorm: {dtype.F32, 1, 0.1}, layerNorm: {dtype.BF16, 1, 0.1}, bias: {dtype.BF16, 0, 0.05},
	decay: {dtype.F32, 1, 1.7}, timeStep: {dtype.BF16, -4, 2.5},
	scale: {dtype.BF16, 3.5e-4, 1.5e-4}, activationScale: {dtype.BF16, 0.02, 0.01},
}

// prefix is what the language model's names begin with.
func (o Options) prefix() string {
	if o.Flat {
		return "model."
	}
	return "model.language_model."
}

// tensor is an entry of a shard.
type tensor struct {
	safetensors.Tensor
	kind kind
}

func (t *tensor) bytes() int64 {
	n, _ := safetensors.Bytes(t.DType, t.Shape)
	return n
}

// derive gives the tensors of a row: one, or a weight in FP8 and its scales.
func (o Options) derive(s spec) []tensor {
	entry := func(name string, k kind, t dtype.DType, shape []int64) tensor {
		return tensor{safetensors.Tensor{Name: name, DType: t, Shape: shape}, k}
	}
	if s.kind != projection && s.kind != expert {
		return []tensor{entry(s.name, s.kind, kinds[s.kind].dtype, s.shape)}
	}
	if o.PerExpertBF16 || o.Stacked {
		return []tensor{entry(s.name, s.kind, dtype.BF16, s.shape)}
	}
	b := int64(o.BlockSize)
	list := []tensor{
		entry(s.name, s.kind, dtype.F8E4M3, s.shape),
		entry(s.name+"_scale_inv", scale, o.ScaleType, []int64{(s.shape[0] + b - 1) / b, (s.shape[1] + b - 1) / b}),
	}
	if o.ActivationScales {
		list = append(list, entry(strings.TrimSuffix(s.name, "weight")+"activation_scale", activationScale, o.ScaleType, []int64{}))
	}
	return list
}

// model is a checkpoint to be written: its sizes and its tensors in the order of their names.
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
	m.add("", o.frame(d))
	for l := range d.layers {
		m.add(fmt.Sprintf("%slayers.%d.", o.prefix(), l), o.layer(d, isFull(l)))
	}
	if o.MTP {
		m.add("", o.mtp(d))
	}
	if o.Vision {
		m.add("", tower(d))
	}
	slices.SortFunc(m.tensors, func(a, b tensor) int { return cmp.Compare(a.Name, b.Name) })
	return m, nil
}

func isFull(layer int) bool { return (layer+1)%fullAttentionEvery == 0 }

func (m *model) add(prefix string, specs []spec) {
	for _, s := range specs {
		for e := range s.times() {
			one := s
			one.name = prefix + strings.Replace(s.name, "#", strconv.Itoa(e), 1)
			m.tensors = append(m.tensors, m.derive(one)...)
		}
	}
}

func (m *model) bytes() (n int64) {
	for i := range m.tensors {
		n += m.tensors[i].bytes()
	}
	return n
}

// mlxRejects counts what mlx-lm has no place for: scales, and experts that are not stacked. It drops the multi-token prediction head itself.
func (m *model) mlxRejects() (n int) {
	for i := range m.tensors {
		t := &m.tensors[i]
		if (t.kind == expert || t.kind == scale || t.kind == activationScale) && !strings.HasPrefix(t.Name, "mtp.") {
			n++
		}
	}
	return n
}
