// Package synth writes small checkpoints with the true structure of a family's FP8 release: names, shapes' relations, dtypes, scales,
// the order inside shards, config and side files. Only the numbers are random. They serve to try things on, to test and to measure.
//
// The way there: Options -> dims (what sizes) -> parts (which tensors, a table for each family) -> shards (where, shards.go) -> bytes (fill.go).
// A family is an entry of family.go's table, in a file with its kin, and a template for its config.json.
package synth

import (
	"context"
	"path/filepath"

	"github.com/metalcast/metalcast/internal/dtype"
	"github.com/metalcast/metalcast/internal/fault"
)

// The families that have more options than the others; Families lists all.
const (
	MoE   = "qwen3_5_moe" // as Qwen/Qwen3.6-35B-A3B-FP8
	Dense = "qwen3_5"     // as Qwen/Qwen3.6-27B-FP8
)

// Options are the choices of a checkpoint. The zero value gives the structure of the Qwen3.6-35B-A3B-FP8 release, all of its layers and
// experts, with matrices so small that the whole is about 40 MB.
type Options struct {
	Family       string // one of Families; "" is MoE
	Layers       int    // 0 here and below: the family's default
	Experts      int    // in each layer
	Hidden       int    // hidden_size
	Intermediate int    // of an expert, shared ones included, or of a dense family's MLP
	Vocab        int    // rows of embed_tokens and lm_head

	// Size is how many bytes of tensor data are wanted; 0 does not ask. With it matrices have the release's true shapes, and the number of layers
	// and of experts (or the intermediate size of a dense family) follow, where they are not given. The vocabulary shrinks in proportion.
	Size int64

	Shards    int         // 0 is 4, or as many as ShardSize needs; 1 is a single model.safetensors without an index
	ShardSize int64       // bytes of tensor data in a shard, at most; a larger tensor has a shard to itself
	ScaleType dtype.DType // of the scales: BF16 or F32; the default is the family's
	BlockSize int         // rows and columns of a scale block; 0 is 128

	MTP              bool // with a multi-token prediction head; families but MoE and Dense have theirs anyway
	Vision           bool // with a vision tower, a small one whatever Size says; the same
	Flat             bool // a text-only derivative: model_type ends in _text, no text_config, names without "language_model."
	PerExpertBF16    bool // no FP8, and one tensor for each expert's projection
	Stacked          bool // no FP8, and experts stacked: what needs no conversion
	ActivationScales bool // a scalar activation_scale beside each FP8 weight, as static quantization leaves them

	Seed     uint64
	Progress func(done, total int64) // if not nil: called now and then, never twice at a time, with bytes of tensor data

	family *family
}

// Summary is what was written.
type Summary struct {
	Dir        string `json:"dir"`
	Family     string `json:"family"`
	Layers     int    `json:"layers"`
	Experts    int    `json:"experts,omitempty"` // in each layer
	Tensors    int    `json:"tensors"`
	Bytes      int64  `json:"bytes"`      // of tensor data
	DiskBytes  int64  `json:"disk_bytes"` // of the shards: data and headers
	Shards     int    `json:"shards"`
	MLXRejects int    `json:"mlx_lm_rejects"` // keys that mlx-lm 0.32.2 says are not in its model
}

// Write makes the checkpoint in the new directory dst, which may exist if it is empty. The same options and seed give the same bytes on every
// machine. Work happens in dst.partial; after an error, or when ctx is cancelled, nothing of it is left.
func Write(ctx context.Context, dst string, o Options) (Summary, error) {
	if dst == "" {
		return Summary{}, fault.New(fault.ErrUsage, "", "no destination")
	}
	dst, err := filepath.Abs(dst)
	if err != nil {
		return Summary{}, err
	}
	m, err := newModel(o)
	if err != nil {
		return Summary{}, err
	}
	shards, err := split(m.tensors, o.Shards, o.ShardSize)
	if err != nil {
		return Summary{}, err
	}
	s := Summary{
		Dir: dst, Family: m.Family, Layers: m.layers, Experts: m.experts,
		Tensors: len(m.tensors), Bytes: m.bytes(), Shards: len(shards), MLXRejects: m.mlxRejects(),
	}
	for i := range shards {
		s.DiskBytes += shards[i].size()
	}
	return s, inNewDir(dst, func(dir string) error {
		if err := writeShards(ctx, dir, shards, o.Seed, newProgress(o.Progress, s.Bytes)); err != nil {
			return err
		}
		if err := writeFiles(dir, m, shards); err != nil {
			return err
		}
		return ctx.Err()
	})
}
