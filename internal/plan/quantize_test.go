package plan_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	. "github.com/metalcast/metalcast/internal/checkpoint/checkpointtest"
	"github.com/metalcast/metalcast/internal/dtype"
	"github.com/metalcast/metalcast/internal/family"
	"github.com/metalcast/metalcast/internal/fault"
	"github.com/metalcast/metalcast/internal/mlxquant"
	"github.com/metalcast/metalcast/internal/plan"
)

var affine4 = mlxquant.Format{Mode: mlxquant.Affine, Bits: 4, GroupSize: 64}

// small is a qwen3_moe checkpoint of two experts: hidden size 128, intermediate size 96, which
// groups of 64 do not divide.
func small(config string) *Checkpoint {
	const l = "model.layers.0."
	c := &Checkpoint{Files: map[string]string{"config.json": `{"model_type":"qwen3_moe","num_hidden_layers":1,"num_experts":2` + config + `}`}, Shards: map[string][]Tensor{}}
	add := func(name, typ string, shape ...int) {
		c.Shards["model.safetensors"] = append(c.Shards["model.safetensors"], Tensor{Name: name, DType: typ, Shape: shape})
	}
	for e := range 2 {
		for proj, shape := range map[string][]int{"gate_proj": {96, 128}, "up_proj": {96, 128}, "down_proj": {128, 96}} {
			name := fmt.Sprintf("%smlp.experts.%d.%s.weight", l, e, proj)
			add(name, "F8_E4M3", shape...)
			add(name+"_scale_inv", "F32", 1, 1)
		}
	}
	add(l+"mlp.gate.weight", "F32", 2, 128)
	add(l+"self_attn.v_proj.weight", "BF16", 64, 128)
	add(l+"self_attn.v_proj.bias", "BF16", 64)
	add(l+"input_layernorm.weight", "F32", 128)
	add("lm_head.weight", "BF16", 10, 128)
	add("model.embed_tokens.weight", "BF16", 10, 128)
	return c
}

func TestQuantizedTensors(t *testing.T) {
	p, err := planOf(t, small(`,"torch_dtype":"bfloat16"`), plan.Options{Quantize: &plan.Quantization{Format: affine4}})
	require.NoError(t, err)
	got := map[string]string{}
	for _, x := range p.Tensors {
		got[x.Name] = fmt.Sprintf("%s%v", x.DType, x.Shape)
	}
	const l = "model.layers.0."
	assert.Equal(t, map[string]string{
		l + "mlp.switch_mlp.gate_proj.weight": "U32[2 96 16]", l + "mlp.switch_mlp.gate_proj.scales": "BF16[2 96 2]", l + "mlp.switch_mlp.gate_proj.biases": "BF16[2 96 2]",
		l + "mlp.switch_mlp.up_proj.weight": "U32[2 96 16]", l + "mlp.switch_mlp.up_proj.scales": "BF16[2 96 2]", l + "mlp.switch_mlp.up_proj.biases": "BF16[2 96 2]",
		// Rows of 96 are no whole groups.
		l + "mlp.switch_mlp.down_proj.weight": "BF16[2 128 96]",
		l + "mlp.gate.weight":                 "U32[2 32]", l + "mlp.gate.scales": "BF16[2 2]", l + "mlp.gate.biases": "BF16[2 2]", // 8 bits; cast to bf16 first
		l + "self_attn.v_proj.weight": "U32[64 16]", l + "self_attn.v_proj.scales": "BF16[64 2]", l + "self_attn.v_proj.biases": "BF16[64 2]", l + "self_attn.v_proj.bias": "BF16[64]",
		l + "input_layernorm.weight": "BF16[128]",
		"lm_head.weight":             "U32[10 16]", "lm_head.scales": "BF16[10 2]", "lm_head.biases": "BF16[10 2]",
		"model.embed_tokens.weight": "U32[10 16]", "model.embed_tokens.scales": "BF16[10 2]", "model.embed_tokens.biases": "BF16[10 2]",
	}, got)
	assert.Equal(t, family.MLX, p.Layout)
	const quantization = `{
        "group_size": 64,
        "bits": 4,
        "mode": "affine",
        "model.layers.0.mlp.gate": {
            "group_size": 64,
            "bits": 8,
            "mode": "affine"
        }
    }`
	assert.Equal(t, `{
    "model_type": "qwen3_moe",
    "num_experts": 2,
    "num_hidden_layers": 1,
    "quantization": `+quantization+`,
    "quantization_config": `+quantization+`,
    "torch_dtype": "bfloat16"
}`, text(t, p, "config.json"))
	card := text(t, p, "README.md")
	for _, line := range []string{"library_name: mlx\n", "pipeline_tag: text-generation\n", "tags:\n- mlx\n", "to affine, 4 bits in groups of 64, mlx layout, by metalcast test"} {
		assert.Contains(t, card, line)
	}
	// Every parameter counts once, as what it was before it was packed.
	assert.Contains(t, text(t, p, "model.safetensors.index.json"), fmt.Sprintf(`"total_parameters": %d`, 2*3*96*128+2*128+64*128+64+128+2*10*128))
}

func TestCastsAsMLXDoes(t *testing.T) {
	for _, test := range []struct {
		config string
		dtype  dtype.DType
		want   string // of input_layernorm, F32 in the source
	}{
		{`,"torch_dtype":"bfloat16"`, 0, "BF16"},
		{`,"torch_dtype":"float32"`, 0, "BF16"}, // a converted FP8 checkpoint says bfloat16
		{`,"dtype":"bfloat16"`, 0, "F32"},       // which mlx_lm does not read
		{`,"torch_dtype":null`, 0, "BF16"},      // for null too
		{``, 0, "F32"},
		{`,"text_config":{"dtype":"bfloat16"}`, 0, "BF16"},
		{``, dtype.F16, "F16"},
	} {
		p, err := planOf(t, small(test.config), plan.Options{DType: test.dtype, Quantize: &plan.Quantization{Format: affine4}})
		require.NoError(t, err)
		for _, x := range p.Tensors {
			if strings.HasSuffix(x.Name, "input_layernorm.weight") {
				assert.Equal(t, test.want, x.DType.String(), test.config)
			}
		}
	}
}

func TestOverrides(t *testing.T) {
	mx := mlxquant.Format{Mode: mlxquant.MXFP8, Bits: 8, GroupSize: 32}
	six := mlxquant.Format{Mode: mlxquant.Affine, Bits: 6, GroupSize: 32}
	for _, test := range []struct {
		overrides []plan.Override
		want      map[string]*mlxquant.Format
		err       string
		kind      error
	}{
		{nil, map[string]*mlxquant.Format{"model.layers.0.mlp.gate": {Mode: mlxquant.Affine, Bits: 8, GroupSize: 64}}, "", nil},
		{[]plan.Override{{"lm_head", &mx}, {"*.v_proj", nil}, {"*switch_mlp.down_proj", &six}}, map[string]*mlxquant.Format{
			"lm_head": &mx, "model.layers.0.self_attn.v_proj": nil, "model.layers.0.mlp.switch_mlp.down_proj": &six,
			"model.layers.0.mlp.gate": {Mode: mlxquant.Affine, Bits: 8, GroupSize: 64},
		}, "", nil},
		{[]plan.Override{{"*", &affine4}, {"*down_proj", nil}}, map[string]*mlxquant.Format{"model.layers.0.mlp.gate": &affine4}, "", nil}, // the last that fits holds
		{[]plan.Override{{"*", &affine4}}, nil, "module model.layers.0.mlp.switch_mlp.down_proj: rows of 96 elements are not whole groups of 64", fault.ErrUnsupported},
		{[]plan.Override{{"*.q_proj", &mx}}, nil, "--q-override *.q_proj: no module fits", fault.ErrUsage},
		{[]plan.Override{{"lm_head", &mlxquant.Format{Mode: mlxquant.MXFP4, Bits: 8, GroupSize: 32}}}, nil, "--q-override lm_head: mxfp4: 8 bits, MLX has 4", fault.ErrUsage},
	} {
		p, err := planOf(t, small(""), plan.Options{Quantize: &plan.Quantization{Format: affine4, Overrides: test.overrides}})
		require.ErrorIs(t, err, test.kind)
		if test.kind != nil {
			assert.Contains(t, err.Error(), test.err)
			continue
		}
		got := map[string]*mlxquant.Format{}
		for _, x := range p.Quantized.Exceptions {
			got[x.Path] = x.Format
		}
		assert.Equal(t, test.want, got)
	}
}

func TestRecipes(t *testing.T) {
	p, err := planOf(t, small(""), plan.Options{Quantize: &plan.Quantization{Format: affine4, Recipe: "mixed_3_6"}})
	require.NoError(t, err)
	got := map[string]int{}
	for _, x := range p.Quantized.Exceptions {
		got[x.Path] = x.Format.Bits
	}
	// One layer is both among the last eighth and not among the first: 7*1/8 = 0 <= 0. The recipe
	// replaces the router's 8 bits.
	assert.Equal(t, map[string]int{
		"lm_head": 6, "model.embed_tokens": 3, "model.layers.0.mlp.gate": 3, "model.layers.0.self_attn.v_proj": 6,
		"model.layers.0.mlp.switch_mlp.gate_proj": 3, "model.layers.0.mlp.switch_mlp.up_proj": 3,
	}, got)
	for _, test := range []struct {
		q    plan.Quantization
		want string
	}{
		{plan.Quantization{Format: affine4, Recipe: "mixed_9_9"}, `--quant-predicate: "mixed_9_9" is not one of mixed_2_6, mixed_3_4, mixed_3_6, mixed_4_6`},
		{plan.Quantization{Format: mlxquant.MXFP4.Default(), Recipe: "mixed_3_6"}, "--quant-predicate: recipes are affine, --q-mode is mxfp4"},
		{plan.Quantization{Format: mlxquant.Format{Mode: mlxquant.Affine, Bits: 7, GroupSize: 64}}, "-q: affine: 7 bits, MLX has"},
	} {
		_, err := planOf(t, small(""), plan.Options{Quantize: &test.q})
		require.ErrorIs(t, err, fault.ErrUsage)
		assert.Contains(t, err.Error(), test.want)
	}
}

func TestWhatIsNotQuantized(t *testing.T) {
	for modelType, want := range map[string]string{
		"llama4": "-q: the MLX-native form of llama4 is not written",
		"x":      "-q: the model type is not one that metalcast knows",
	} {
		c := small("")
		c.Files["config.json"] = strings.Replace(c.Files["config.json"], "qwen3_moe", modelType, 1)
		_, err := planOf(t, c, plan.Options{Quantize: &plan.Quantization{Format: affine4}})
		require.ErrorIs(t, err, fault.ErrUnsupported)
		assert.Contains(t, err.Error(), want)
	}
	_, err := planOf(t, small(""), plan.Options{Layout: family.Stacked, Quantize: &plan.Quantization{Format: affine4}})
	require.ErrorIs(t, err, fault.ErrUsage)
	assert.Contains(t, err.Error(), "-q: quantized weights have the MLX-native layout, not stacked")
	c := small(`,"quantization":{"bits":4}`)
	_, err = planOf(t, c, plan.Options{Quantize: &plan.Quantization{Format: affine4}})
	require.Error(t, err)
}
