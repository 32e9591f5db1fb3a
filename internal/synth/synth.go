// Package synth writes small checkpoints with the true structure of a family's FP8 release: names,
// relations between shapes, dtypes, scales, the order inside shards, config and side files. Only
// the numbers are random. They are for trying things out, for tests and for measurements.
//
// The steps: Options -> dims (sizes) -> parts (tensors, a table for each family) -> shards (where
// they go, shards.go) -> bytes (fill.go). A family is an entry in family.go's table, defined in a
// file with its relatives, and a template for its config.json.
package synth

import (
	"context"
	"path/filepath"

	"github.com/metalcast/metalcast/internal/dtype"
	"github.com/metalcast/metalcast/internal/fault"
)

// The families that have more options than the others. Families lists all.
const (
	MoE   = "qwen3_5_moe" // like Qwen/Qwen3.6-35B-A3B-FP8
	Dense = "qwen3_5"     // like Qwen/Qwen3.6-27B-FP8
)

// Options describe a checkpoint. The zero value yields the structure of the Qwen3.6-35B-A3B-FP8
// release with all of its layers and experts, but with small matrices, about 40 MB in total.
type Options struct {
	Family       string // one of Families; "" is MoE
	Layers       int    // 0 here and below: the family's default
	Experts      int    // in each layer
	Hidden       int    // hidden_size
	Intermediate int    // of an expert, including shared ones, or of a dense family's MLP
	Vocab        int    // rows of embed_tokens and lm_head

	// Size is the number of bytes of tensor data; 0 leaves it open. If it is set, matrices have the
	// release's true shapes, and the numbers of layers and experts (or the intermediate size of a
	// dense family) are derived from it unless given. The vocabulary shrinks in proportion.
	Size int64

	// 0 is 4, or as many as ShardSize needs; 1 is a single model.safetensors without an index
	Shards    int
	ShardSize int64       // maximum bytes of tensor data in a shard; a larger tensor has its own shard
	ScaleType dtype.DType // type of the scales: BF16 or F32; the default is the family's
	BlockSize int         // rows and columns of a scale block; 0 is 128

	// with a multi-token prediction head; families other than MoE and Dense always have theirs
	MTP    bool
	Vision bool // with a vision tower, small whatever Size is; the same applies
	// a text-only derivative: model_type ends in _text, no text_config, names without
	// "language_model."
	Flat          bool
	PerExpertBF16 bool // no FP8, and one tensor per projection of each expert
	Stacked       bool // no FP8, and stacked experts: nothing to convert
	// a scalar activation_scale for each FP8 weight, as static quantization produces them
	ActivationScales bool

	Seed uint64
	// if not nil, called periodically, never concurrently, with bytes of tensor data
	Progress func(done, total int64)

	family *family
}

// Summary describes what was written.
type Summary struct {
	Dir        string `json:"dir"`
	Family     string `json:"family"`
	Layers     int    `json:"layers"`
	Experts    int    `json:"experts,omitempty"` // in each layer
	Tensors    int    `json:"tensors"`
	Bytes      int64  `json:"bytes"`      // of tensor data
	DiskBytes  int64  `json:"disk_bytes"` // size of the shards: data and headers
	Shards     int    `json:"shards"`
	MLXRejects int    `json:"mlx_lm_rejects"` // keys that mlx-lm 0.32.2 reports as not in its model
}

// Write creates the checkpoint in the new directory dst, which may exist if it is empty. The same
// options and seed produce the same bytes on every machine. It works in dst.partial, which is
// removed after an error or when ctx is cancelled.
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
