package synth

import (
	"fmt"

	"github.com/metalcast/metalcast/internal/dtype"
	"github.com/metalcast/metalcast/internal/fault"
)

// dims are the sizes of a model.
type dims struct {
	layers, experts, topK                              int // no experts: a dense model
	hidden, intermediate, vocab                        int
	heads, kvHeads, headDim                            int // of the full attention in every fourth layer
	linKeyHeads, linValueHeads, linKeyDim, linValueDim int // of the linear attention in the others
	conv                                               int // its convolution's width
}

// fullAttentionEvery is the distance of layers with full attention: layers 3, 7, 11 and so on.
const fullAttentionEvery = 4

// release are the published dimensions.
var release = map[string]dims{
	MoE: {
		layers: 40, experts: 256, topK: 8, hidden: 2048, intermediate: 512, vocab: 248320,
		heads: 16, kvHeads: 2, headDim: 256, linKeyHeads: 16, linValueHeads: 32, linKeyDim: 128, linValueDim: 128, conv: 4,
	},
	Dense: {
		layers: 64, hidden: 5120, intermediate: 17408, vocab: 248320,
		heads: 24, kvHeads: 4, headDim: 256, linKeyHeads: 16, linValueHeads: 48, linKeyDim: 128, linValueDim: 128, conv: 4,
	},
}

// reduced have as many layers and experts as the release, and small matrices.
var reduced = map[string]dims{
	MoE: {
		layers: 40, experts: 256, topK: 8, hidden: 64, intermediate: 16, vocab: 512,
		heads: 4, kvHeads: 2, headDim: 32, linKeyHeads: 2, linValueHeads: 4, linKeyDim: 16, linValueDim: 16, conv: 4,
	},
	Dense: {
		layers: 64, hidden: 64, intermediate: 192, vocab: 512,
		heads: 4, kvHeads: 2, headDim: 32, linKeyHeads: 2, linValueHeads: 4, linKeyDim: 16, linValueDim: 16, conv: 4,
	},
}

// vision are the dimensions of the small vision tower.
var vision = struct{ depth, hidden, intermediate, heads, channels, patch, frames, positions, merge int }{
	depth: 2, hidden: 64, intermediate: 128, heads: 4, channels: 3, patch: 16, frames: 2, positions: 16, merge: 2,
}

const (
	minVocab   = 512     // room for the tokenizer that is written beside
	maxDim     = 1 << 18 // beyond any model; a product of three stays inside an int64
	maxLayers  = 1 << 13
	maxTensors = 500_000 // their headers stay under the reference reader's 100 MB even in one shard
	maxBytes   = 1 << 50
)

func usage(flag, format string, args ...any) error {
	return fault.New(fault.ErrUsage, flag, format, args...)
}

// withDefaults fills in what is not given and refuses what contradicts itself.
func (o Options) withDefaults() (Options, error) {
	if o.Family == "" {
		o.Family = MoE
	}
	if o.ScaleType == dtype.Invalid {
		o.ScaleType = dtype.BF16
	}
	if o.BlockSize == 0 {
		o.BlockSize = 128
	}
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
	_, known := release[o.Family]
	fp8 := !o.PerExpertBF16 && !o.Stacked
	switch {
	case !known:
		return o, usage("--family", "%q is none of %s, %s", o.Family, MoE, Dense)
	case o.ScaleType != dtype.BF16 && o.ScaleType != dtype.F32:
		return o, usage("--scale-type", "%s, BF16 or F32 was expected", o.ScaleType)
	case o.Vocab != 0 && o.Vocab < minVocab:
		return o, usage("--vocab", "%d, at least %d was expected: the tokenizer needs them", o.Vocab, minVocab)
	case o.Size < 0 || o.Size > maxBytes:
		return o, usage("--size", "%d bytes, a number from 1 to 2^50 was expected", o.Size)
	case o.ShardSize < 0:
		return o, usage("--shard-size", "%d bytes, a positive number was expected", o.ShardSize)
	case o.Shards > 0 && o.ShardSize > 0:
		return o, usage("--shards", "excludes --shard-size")
	case o.Family == Dense && o.Experts > 0:
		return o, usage("--experts", "%s is a dense family, it has none", Dense)
	case o.Family == Dense && o.Stacked:
		return o, usage("--stacked", "%s is a dense family, it has no experts to stack", Dense)
	case o.PerExpertBF16 && o.Stacked:
		return o, usage("--stacked", "excludes --per-expert-bf16")
	case o.ActivationScales && !fp8:
		return o, usage("--activation-scales", "they go with FP8 weights, and none are asked for")
	case o.Flat && o.Vision:
		return o, usage("--vision", "excludes --flat: text-only checkpoints have no vision tower")
	}
	return o, nil
}

// choose gives the model's sizes. The options have their defaults.
func (o Options) choose() (dims, error) {
	d := reduced[o.Family]
	if o.Size > 0 {
		d = release[o.Family]
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
	switch n, b := o.measure(d); {
	case n > maxTensors:
		return d, usage("--layers", "%d layers would need %d tensors, at most %d are written; take fewer layers or experts", d.layers, n, maxTensors)
	case b > maxBytes:
		return d, usage("--layers", "the checkpoint would have more than 2^50 bytes; take fewer layers or smaller ones")
	}
	return d, nil
}

// String says the sizes that the options choose.
func (d dims) String() string {
	s := fmt.Sprintf("%d layers, hidden size %d, intermediate size %d", d.layers, d.hidden, d.intermediate)
	if d.experts > 0 {
		s += fmt.Sprintf(", %d experts", d.experts)
	}
	return s
}
