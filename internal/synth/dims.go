package synth

import (
	"fmt"

	"github.com/metalcast/metalcast/internal/dtype"
	"github.com/metalcast/metalcast/internal/fault"
)

// dims are the sizes of a model.
type dims struct {
	layers, experts, topK int // experts is 0 in a dense model
	// intermediate is an expert's, or a dense model's
	hidden, intermediate, vocab int
	// the size of a dense MLP beside experts, the number of leading layers with one, the number of
	// shared experts
	dense, firstDense, shared int
	// of the attention; without headDim it is the hidden size divided by the heads
	heads, kvHeads, headDim                            int
	qLora, kvLora, nope, rope, valueDim                int // of multi-head latent attention
	indexHeads, indexDim                               int // of sparse attention's indexer
	linKeyHeads, linValueHeads, linKeyDim, linValueDim int // of linear attention
	// width of its convolution, or a Mamba layer's
	conv                                int
	mambaHeads, mambaDim, state, groups int // of a Mamba layer
}

// head returns the size of an attention head.
func (d dims) head() int {
	if d.headDim > 0 {
		return d.headDim
	}
	return d.hidden / d.heads
}

const (
	minVocab   = 512     // room for the tokenizer that is written too
	maxDim     = 1 << 18 // beyond any model; a product of three fits in an int64
	maxLayers  = 1 << 13
	maxTensors = 500_000 // their headers stay under the reference reader's 100 MB even in one shard
	maxBytes   = 1 << 50
)

func usage(flag, format string, args ...any) error {
	return fault.New(fault.ErrUsage, flag, format, args...)
}

// withDefaults fills in missing options and refuses contradictory ones.
func (o Options) withDefaults() (Options, error) {
	if o.Family == "" {
		o.Family = MoE
	}
	f, known := familyOf(o.Family)
	if !known {
		return o, usage("--family", "%q is not one of %s", o.Family, listed())
	}
	o.Family, o.family = f.name, f
	for _, n := range []struct {
		flag  string
		value int
	}{
		{"--layers", o.Layers}, {"--experts", o.Experts}, {"--hidden", o.Hidden}, {"--intermediate", o.Intermediate},
		{"--vocab", o.Vocab}, {"--shards", o.Shards}, {"--block-size", o.BlockSize},
	} {
		if n.value < 0 || n.value > maxDim {
			return o, usage(n.flag, "%d, a number from 1 to %d was expected", n.value, maxDim)
		}
	}
	if err := o.contradiction(); err != nil {
		return o, err
	}
	if o.ScaleType == dtype.Invalid {
		o.ScaleType = f.dialect.dtype
	}
	if o.BlockSize == 0 {
		o.BlockSize = 128
	}
	o.ActivationScales = o.ActivationScales || f.dialect.static
	o.MTP = o.MTP || f.mtp == always
	o.Vision = o.Vision || f.vision == always
	return o, nil
}

// contradiction refuses options that exclude each other or that the family does not use.
func (o Options) contradiction() error {
	f := o.family
	switch {
	case o.ScaleType != dtype.Invalid && o.ScaleType != dtype.BF16 && o.ScaleType != dtype.F32:
		return usage("--scale-type", "%s, BF16 or F32 was expected", o.ScaleType)
	case o.Vocab != 0 && o.Vocab < minVocab:
		return usage("--vocab", "%d, at least %d was expected: the tokenizer needs them", o.Vocab, minVocab)
	case o.Size < 0 || o.Size > maxBytes:
		return usage("--size", "%d bytes, a number from 1 to 2^50 was expected", o.Size)
	case o.ShardSize < 0:
		return usage("--shard-size", "%d bytes, a positive number was expected", o.ShardSize)
	case o.Shards > 0 && o.ShardSize > 0:
		return usage("--shards", "excludes --shard-size")
	case f.full.experts == 0 && o.Experts > 0:
		return usage("--experts", "%s is a dense family, it has none", f.name)
	case f.full.experts == 0 && o.Stacked:
		return usage("--stacked", "%s is a dense family, it has no experts to stack", f.name)
	case o.Stacked && f.name != MoE:
		return usage("--stacked", "is for %s, no consumer of %s loads the form that needs no conversion", MoE, f.name)
	case o.PerExpertBF16 && f.stacked:
		return usage("--per-expert-bf16", "the experts of %s are published stacked", f.name)
	case o.PerExpertBF16 && o.Stacked:
		return usage("--stacked", "excludes --per-expert-bf16")
	case o.ActivationScales && !o.isFP8():
		return usage("--activation-scales", "they go with FP8 weights, and none are asked for")
	case o.ActivationScales && f.dialect.activation == "":
		return usage("--activation-scales", "%s scales activations when they come, nothing is stored", f.name)
	case o.BlockSize > 0 && f.dialect.form != blocks:
		return usage("--block-size", "%s has one scale for a row or a matrix, not for a block", f.name)
	case o.MTP && f.mtp == never:
		return usage("--mtp", "%s is published without a multi-token prediction head", f.name)
	case o.Vision && f.vision == never:
		return usage("--vision", "%s is a family of text-only models", f.name)
	case o.Flat && f.mtp != onDemand:
		return usage("--flat", "is for %s and %s, whose derivatives are published so", MoE, Dense)
	case o.Flat && o.Vision:
		return usage("--vision", "excludes --flat: text-only checkpoints have no vision tower")
	}
	return nil
}

// choose returns the model's sizes. The options have their defaults.
func (o Options) choose() (dims, error) {
	d := o.family.reduced
	if o.Size > 0 {
		d = o.family.full
	}
	for _, n := range []struct {
		to    *int
		given int
	}{{&d.layers, o.Layers}, {&d.experts, o.Experts}, {&d.hidden, o.Hidden}, {&d.intermediate, o.Intermediate}, {&d.vocab, o.Vocab}} {
		if n.given > 0 {
			*n.to = n.given
		}
	}
	if o.Size > 0 {
		if err := o.fit(&d); err != nil {
			return d, err
		}
	}
	d.topK = min(d.topK, d.experts)
	if d.headDim == 0 && d.qLora == 0 && d.hidden%d.heads != 0 {
		return d, usage("--hidden", "%d, a multiple of the %d attention heads of %s was expected", d.hidden, d.heads, o.family.name)
	}
	d.firstDense = min(d.firstDense, d.layers)
	switch n, b := o.measure(d); {
	case n > maxTensors:
		return d, usage("--layers", "%d layers would need %d tensors, at most %d are written; take fewer layers or experts", d.layers, n, maxTensors)
	case b > maxBytes:
		return d, usage("--layers", "the checkpoint would have more than 2^50 bytes; take fewer layers or smaller ones")
	}
	return d, nil
}

// String describes the sizes that the options choose.
func (d dims) String() string {
	s := fmt.Sprintf("%d layers, hidden size %d, intermediate size %d", d.layers, d.hidden, d.intermediate)
	if d.experts > 0 {
		s += fmt.Sprintf(", %d experts", d.experts)
	}
	return s
}
