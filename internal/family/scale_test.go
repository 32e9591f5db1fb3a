package family_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	. "github.com/metalcast/metalcast/internal/checkpoint/checkpointtest"
	"github.com/metalcast/metalcast/internal/dtype"
	"github.com/metalcast/metalcast/internal/family"
	"github.com/metalcast/metalcast/internal/fault"
)

// Configs as the quantizers write them.
const (
	fp8Config      = `{"model_type":"x","quantization_config":{"quant_method":"fp8","weight_block_size":[128,128]}}`
	tensorConfig   = `{"model_type":"x","quantization_config":{"quant_method":"fp8","weight_block_size":null}}`
	ctBlockConfig  = `{"model_type":"x","quantization_config":{"quant_method":"compressed-tensors","config_groups":{"a":{"weights":{"block_structure":[64,32]}}}}}`
	ctConfig       = `{"model_type":"x","quantization_config":{"quant_method":"compressed-tensors","config_groups":{"a":{"weights":{"strategy":"channel"}}}}}`
	modelOptConfig = `{"model_type":"x","quantization_config":{"quant_method":"modelopt","quant_algo":"FP8"}}`
	twoConfig      = `{"model_type":"x","quantization_config":{"config_groups":{"a":{"weights":{"block_structure":[64,64]}},"b":{"weights":{"block_structure":[100,100]}}}}}`
)

func TestScales(t *testing.T) {
	type shape = []int
	for _, test := range []struct {
		name, config  string
		weight, scale string
		weightShape   shape
		scaleType     string
		scaleShape    shape
		trust         bool

		form string // "" is an error
		want family.Scales
		kind error
		err  string
	}{
		{name: "block", config: fp8Config, weight: "a.weight", scale: "a.weight_scale_inv", weightShape: shape{300, 200}, scaleType: "BF16", scaleShape: shape{3, 2},
			form: "blocks of 128x128", want: family.Scales{Type: dtype.BF16, Block: family.Block{Rows: 128, Cols: 128}, Cols: 2, Stride: 6}},
		{name: "block, partial as in kv_a_proj_with_mqa", config: fp8Config, weight: "a.weight", scale: "a.weight_scale_inv", weightShape: shape{576, 7168}, scaleType: "F32", scaleShape: shape{5, 56},
			form: "blocks of 128x128", want: family.Scales{Type: dtype.F32, Block: family.Block{Rows: 128, Cols: 128}, Cols: 56, Stride: 280}},
		{name: "block, stacked", config: fp8Config, weight: "moe.up_proj.weight", scale: "moe.up_proj.weight_scale_inv", weightShape: shape{4, 300, 200}, scaleType: "F32", scaleShape: shape{4, 3, 2},
			form: "blocks of 128x128", want: family.Scales{Type: dtype.F32, Block: family.Block{Rows: 128, Cols: 128}, Cols: 2, Stride: 6}},
		{name: "a name without .weight", config: fp8Config, weight: "experts.gate_up_proj", scale: "experts.gate_up_proj_scale_inv", weightShape: shape{4, 200, 300}, scaleType: "BF16", scaleShape: shape{4, 2, 3},
			form: "blocks of 128x128", want: family.Scales{Type: dtype.BF16, Block: family.Block{Rows: 128, Cols: 128}, Cols: 3, Stride: 6}},
		{name: "powers of two in F8_E8M0", config: fp8Config, weight: "a.weight", scale: "a.scale", weightShape: shape{300, 200}, scaleType: "F8_E8M0", scaleShape: shape{3, 2},
			form: "blocks of 128x128", want: family.Scales{Type: dtype.F8E8M0, Block: family.Block{Rows: 128, Cols: 128}, Cols: 2, Stride: 6}},
		{name: "powers of two in U8", config: fp8Config, weight: "a.weight", scale: "a.weight_scale_inv", weightShape: shape{300, 200}, scaleType: "U8", scaleShape: shape{3, 2},
			form: "blocks of 128x128", want: family.Scales{Type: dtype.F8E8M0, Block: family.Block{Rows: 128, Cols: 128}, Cols: 2, Stride: 6}},
		{name: "scalar", config: tensorConfig, weight: "a.weight", scale: "a.weight_scale_inv", weightShape: shape{3, 2}, scaleType: "BF16", scaleShape: shape{},
			form: "one for the whole tensor", want: family.Scales{Type: dtype.BF16, Block: family.Block{Rows: 3, Cols: 2}, Cols: 1}},
		{name: "compressed-tensors, tensor", config: ctConfig, weight: "a.weight", scale: "a.weight_scale", weightShape: shape{3, 2}, scaleType: "F32", scaleShape: shape{1},
			form: "one for the whole tensor", want: family.Scales{Type: dtype.F32, Block: family.Block{Rows: 3, Cols: 2}, Cols: 1}},
		{name: "two dimensions of one", config: ctConfig, weight: "a.weight", scale: "a.weight_scale", weightShape: shape{300, 200}, scaleType: "F16", scaleShape: shape{1, 1},
			form: "one for the whole tensor", want: family.Scales{Type: dtype.F16, Block: family.Block{Rows: 300, Cols: 200}, Cols: 1}},
		{name: "one scale for a whole stack", config: modelOptConfig, weight: "experts.down_proj", scale: "experts.down_proj_weight_scale", weightShape: shape{4, 3, 2}, scaleType: "F32", scaleShape: shape{},
			form: "one for the whole tensor", want: family.Scales{Type: dtype.F32, Block: family.Block{Rows: 3, Cols: 2}, Cols: 1}},
		{name: "[E]", config: tensorConfig, weight: "experts.gate_up_proj", scale: "experts.gate_up_proj_scale_inv", weightShape: shape{4, 3, 2}, scaleType: "F32", scaleShape: shape{4},
			form: "one for each matrix", want: family.Scales{Type: dtype.F32, Block: family.Block{Rows: 3, Cols: 2}, Cols: 1, Stride: 1}},
		{name: "[E,1,1]", config: tensorConfig, weight: "experts.gate_up_proj", scale: "experts.gate_up_proj_scale_inv", weightShape: shape{4, 3, 2}, scaleType: "F32", scaleShape: shape{4, 1, 1},
			form: "one for each matrix", want: family.Scales{Type: dtype.F32, Block: family.Block{Rows: 3, Cols: 2}, Cols: 1, Stride: 1}},
		{name: "channel", config: ctConfig, weight: "a.weight", scale: "a.weight_scale", weightShape: shape{300, 200}, scaleType: "BF16", scaleShape: shape{300, 1},
			form: "one for each row", want: family.Scales{Type: dtype.BF16, Block: family.Block{Rows: 1, Cols: 200}, Cols: 1, Stride: 300}},
		{name: "channel, in one dimension", config: ctConfig, weight: "a.weight", scale: "a.weight_scale", weightShape: shape{300, 200}, scaleType: "F32", scaleShape: shape{300},
			form: "one for each row", want: family.Scales{Type: dtype.F32, Block: family.Block{Rows: 1, Cols: 200}, Cols: 1, Stride: 300}},
		{name: "channel of a transposed stack", config: ctConfig, weight: "experts.down_proj", scale: "experts.down_proj_scale", weightShape: shape{4, 30, 20}, scaleType: "F32", scaleShape: shape{4, 1, 20},
			form: "one for each column", want: family.Scales{Type: dtype.F32, Block: family.Block{Rows: 30, Cols: 1}, Cols: 20, Stride: 20}},
		{name: "compressed-tensors, block", config: ctBlockConfig, weight: "a.weight", scale: "a.weight_scale", weightShape: shape{300, 200}, scaleType: "F32", scaleShape: shape{5, 7},
			form: "blocks of 64x32", want: family.Scales{Type: dtype.F32, Block: family.Block{Rows: 64, Cols: 32}, Cols: 7, Stride: 35}},
		{name: "ModelOpt, scalar", config: modelOptConfig, weight: "a.weight", scale: "a.weight_scale", weightShape: shape{3, 2}, scaleType: "F32", scaleShape: shape{},
			form: "one for the whole tensor", want: family.Scales{Type: dtype.F32, Block: family.Block{Rows: 3, Cols: 2}, Cols: 1}},
		{name: "ModelOpt, four dimensions", config: modelOptConfig, weight: "a.weight", scale: "a.weight_scale", weightShape: shape{300, 200}, scaleType: "F32", scaleShape: shape{3, 1, 2, 1},
			form: "blocks of 128x128, in four dimensions", want: family.Scales{Type: dtype.F32, Block: family.Block{Rows: 128, Cols: 128}, Cols: 2, Stride: 6}},
		{name: "surplus rows, trusted", config: fp8Config, weight: "a.weight", scale: "a.weight_scale_inv", weightShape: shape{300, 200}, scaleType: "F32", scaleShape: shape{4, 2}, trust: true,
			form: "blocks of 128x128", want: family.Scales{Type: dtype.F32, Block: family.Block{Rows: 128, Cols: 128}, Cols: 2, Stride: 6}},

		{name: "no scale", config: fp8Config, weight: "a.weight", scale: "b.scale", weightShape: shape{3, 2}, scaleType: "F32", scaleShape: shape{},
			kind: fault.ErrIncomplete, err: `tensor "a.weight": is FP8 (F8_E4M3) and has no scale: "a.weight_scale_inv" is in no shard`},
		{name: "block, wrong grid", config: fp8Config, weight: "a.weight", scale: "a.weight_scale_inv", weightShape: shape{300, 200}, scaleType: "F32", scaleShape: shape{2, 2},
			kind: fault.ErrCorrupt, err: `tensor "a.weight_scale_inv": scale grid is [2 2], want [3 2] for a weight of [300 200] in blocks of 128x128`},
		{name: "block, surplus rows", config: fp8Config, weight: "a.weight", scale: "a.weight_scale_inv", weightShape: shape{300, 200}, scaleType: "F32", scaleShape: shape{4, 2},
			kind: fault.ErrCorrupt, err: `scale grid is [4 2], want [3 2]`},
		{name: "block, wrong rank", config: fp8Config, weight: "a.weight", scale: "a.weight_scale_inv", weightShape: shape{300, 200}, scaleType: "F32", scaleShape: shape{6},
			kind: fault.ErrCorrupt, err: `scale grid is [6], want [3 2]`},
		{name: "block size of another grid", config: fp8Config, weight: "a.weight", scale: "a.weight_scale_inv", weightShape: shape{300, 200}, scaleType: "F32", scaleShape: shape{1, 1},
			kind: fault.ErrCorrupt, err: `scale grid is [1 1], want [3 2]`},
		{name: "stacked, one matrix short", config: fp8Config, weight: "experts.up", scale: "experts.up_scale_inv", weightShape: shape{4, 300, 200}, scaleType: "F32", scaleShape: shape{3, 3, 2},
			kind: fault.ErrCorrupt, err: `scale grid is [3 3 2], want [4 3 2] for a weight of [4 300 200]`},
		{name: "stacked, axes turned", config: fp8Config, weight: "experts.up", scale: "experts.up_scale_inv", weightShape: shape{4, 300, 200}, scaleType: "F32", scaleShape: shape{4, 2, 3},
			kind: fault.ErrCorrupt, err: `scale grid is [4 2 3], want [4 3 2]`},
		{name: "stacked, too few scalars", config: tensorConfig, weight: "experts.up", scale: "experts.up_scale_inv", weightShape: shape{4, 300, 200}, scaleType: "F32", scaleShape: shape{3, 1, 1},
			kind: fault.ErrCorrupt, err: `scale grid is [3 1 1], want [4 3 2]`},
		{name: "channel, one row short", config: ctConfig, weight: "a.weight", scale: "a.weight_scale", weightShape: shape{300, 200}, scaleType: "F32", scaleShape: shape{299, 1},
			kind: fault.ErrCorrupt, err: `scale grid is [299 1], want [3 2]`},
		{name: "compressed-tensors block, wrong grid", config: ctBlockConfig, weight: "a.weight", scale: "a.weight_scale", weightShape: shape{300, 200}, scaleType: "F32", scaleShape: shape{3, 2},
			kind: fault.ErrCorrupt, err: `scale grid is [3 2], want [5 7] for a weight of [300 200] in blocks of 64x32`},
		{name: "ModelOpt, four dimensions, wrong grid", config: modelOptConfig, weight: "a.weight", scale: "a.weight_scale", weightShape: shape{300, 200}, scaleType: "F32", scaleShape: shape{2, 1, 2, 1},
			kind: fault.ErrCorrupt, err: `scale grid is [2 1 2 1], want [3 2]`},
		{name: "E8M0, wrong grid", config: fp8Config, weight: "a.weight", scale: "a.scale", weightShape: shape{300, 200}, scaleType: "F8_E8M0", scaleShape: shape{2, 3},
			kind: fault.ErrCorrupt, err: `tensor "a.scale": scale grid is [2 3], want [3 2]`},
		{name: "two block sizes fit", config: twoConfig, weight: "a.weight", scale: "a.weight_scale", weightShape: shape{40, 50}, scaleType: "F32", scaleShape: shape{1, 1},
			kind: fault.ErrCorrupt, err: `fits blocks of 64x64 and blocks of 100x100, both of which config.json names`},
		{name: "scales in integers", config: fp8Config, weight: "a.weight", scale: "a.weight_scale", weightShape: shape{3, 2}, scaleType: "I64", scaleShape: shape{},
			kind: fault.ErrUnsupported, err: `is I64; scales are read in`},
		{name: "a vector", config: fp8Config, weight: "a.weight", scale: "a.weight_scale", weightShape: shape{3}, scaleType: "F32", scaleShape: shape{},
			kind: fault.ErrUnsupported, err: `FP8 of shape [3], a matrix was expected`},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := &Checkpoint{Files: map[string]string{"config.json": test.config}, Shards: map[string][]Tensor{
				"a.safetensors": {{Name: test.weight, DType: "F8_E4M3", Shape: test.weightShape}},
				// Scales may be in any shard.
				"b.safetensors": {{Name: test.scale, DType: test.scaleType, Shape: test.scaleShape}},
			}}
			c.Index(nil)
			v := open(t, c)
			sites, err := family.Of(v.Config).Sites(v, family.Options{TrustScales: test.trust})
			if test.form == "" {
				require.ErrorIs(t, err, test.kind)
				assert.Contains(t, err.Error(), test.err)
				return
			}
			require.NoError(t, err)
			require.Equal(t, []family.Role{family.Weight, family.Scale}, []family.Role{sites[0].Role, sites[1].Role})
			test.want.Tensor, test.want.Form = sites[1].Tensor, test.form
			assert.Equal(t, test.want, *sites[0].Scales)
		})
	}
}

func TestCompanionsAreDropped(t *testing.T) {
	list := []Tensor{{Name: "a.weight", DType: "F8_E4M3", Shape: []int{2, 2}}, {Name: "a.weight_scale", DType: "F32", Shape: []int{}}}
	for _, name := range []string{"a.input_scale", "a.activation_scale", "a.act_scale", "experts.down_proj_activation_scale", "experts.down_proj_input_scale",
		"self_attn.k_proj.k_scale", "self_attn.v_proj.v_scale", "a.output_scale"} {
		list = append(list, Tensor{Name: name, DType: "F32", Shape: []int{}})
	}
	// Called scale and none of an FP8 weight.
	kept := []string{"vision.layer_scale", "blocks.0.ls1.scale", "norm.scale"}
	for _, name := range kept {
		list = append(list, Tensor{Name: name, DType: "BF16", Shape: []int{4}})
	}
	v := open(t, &Checkpoint{Files: map[string]string{"config.json": ctConfig}, Shards: map[string][]Tensor{"model.safetensors": list}})
	sites, err := family.Of(v.Config).Sites(v, family.Options{})
	require.NoError(t, err)
	for i, s := range sites[2:] {
		want := family.Drop
		if i >= len(list)-2-len(kept) {
			want = family.Move
		}
		assert.Equal(t, want, s.Role, s.Tensor.Name)
		assert.Equal(t, want == family.Drop, s.Reason != "", s.Tensor.Name)
	}
}
