package synth

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/metalcast/metalcast/internal/dtype"
	"github.com/metalcast/metalcast/internal/needtest"
)

// The properties of the families' checkpoints, written down independently of the tables that make
// them.
var expected = map[string]struct {
	tensors, scaled, drops int    // all tensors; FP8 weights; tensors of a prediction head
	class, modelType       string // architectures and model_type, with text_config's after a slash
	method                 string // quant_method
	suffix                 string // suffix of a weight's scale
	scales                 dtype.DType
	activations            string // the suffix of an activation scale
	// one scale per 128x128 block; otherwise one per row, or per matrix if there are activation scales
	block bool
}{
	"qwen3_5_moe": {62303, 30970, 0, "Qwen3_5MoeForConditionalGeneration", "qwen3_5_moe/qwen3_5_moe_text", "fp8", "_scale_inv", dtype.BF16, "", true},
	"qwen3_5":     {1251, 400, 0, "Qwen3_5ForConditionalGeneration", "qwen3_5/qwen3_5_text", "fp8", "_scale_inv", dtype.BF16, "", true},
	// 3 outside the layers; a layer has 4 norms, 4 projections and possibly a router; an expert, or a
	// dense MLP, has 3 projections.
	"qwen3_moe": {3 + 2*(5+2*(4+4*3)), 2 * (4 + 4*3), 0, "Qwen3MoeForCausalLM", "qwen3_moe", "fp8", "_scale_inv", dtype.BF16, "", true},
	"qwen3":     {3 + 2*(4+2*7), 2 * 7, 0, "Qwen3ForCausalLM", "qwen3", "fp8", "_scale_inv", dtype.BF16, "", true},
	// 3 layers of linear attention (2 projections, 5 more), full ones with 4 (2 norms more); 2 norms,
	// 2 gates, 5 MLPs; the head's 4.
	"qwen3_next": {3 + 3*(4+5+2*(2+15)) + 2*(4+2+2*(4+15)) + 4, 3*17 + 2*19, 4 + 6 + 2*19, "Qwen3NextForCausalLM", "qwen3_next", "fp8", "_scale_inv", dtype.BF16, "", true},
	// The tower has 3 tensors, 12 in each of 2 blocks, 6 in each of 2 mergers.
	"qwen3_vl_moe": {3 + 2*(5+2*6) + 3 + 24 + 12, 2 * 6, 0, "Qwen3VLMoeForConditionalGeneration", "qwen3_vl_moe/qwen3_vl_moe_text", "fp8", "_scale_inv", dtype.BF16, "", true},
	// Latent attention: 5 projections; 4 norms in a layer. With 5 MLPs, a gate and its bias. The
	// prediction layer has 6 more.
	"deepseek_v3":  {3 + (4 + 2*8) + 3*(6+2*20) + 6, 8 + 3*20, 6 + 46, "DeepseekV3ForCausalLM", "deepseek_v3", "fp8", "_scale_inv", dtype.F32, "", true},
	"kimi_k2":      {3 + (4 + 2*8) + 2*(6+2*20), 8 + 2*20, 0, "DeepseekV3ForCausalLM", "kimi_k2", "fp8", "_scale_inv", dtype.F32, "", true},
	"deepseek_v32": {3 + (7 + 2*10) + 3*(9+2*22) + 6, 10 + 3*22, 6 + 53, "DeepseekV32ForCausalLM", "deepseek_v32", "fp8", "_scale_inv", dtype.F32, "", true},
	"glm_moe_dsa":  {3 + (7 + 2*10) + 3*(9+2*22) + 6, 10 + 3*22, 6 + 53, "GlmMoeDsaForCausalLM", "glm_moe_dsa", "fp8", "_scale_inv", dtype.F32, "", true},
	"glm4_moe_lite": {3 + (4 + 2*8) + 3*(6+2*20) + 6, 8 + 3*20, 6 + 46, "Glm4MoeLiteForCausalLM", "glm4_moe_lite", "compressed-tensors",
		"_scale", dtype.BF16, "", false},
	"glm4_moe":   {3 + (7 + 2*7) + 3*(9+2*19) + 6, 7 + 3*19, 6 + 47, "Glm4MoeForCausalLM", "glm4_moe", "compressed-tensors", "_scale", dtype.F32, "", false},
	"solar_open": {3 + 3*(4+2*19), 3 * 19, 0, "SolarOpenForCausalLM", "solar_open", "compressed-tensors", "_scale", dtype.BF16, "", false},
	"dots1":      {3 + (4 + 2*7) + 2*(6+2*19), 7 + 2*19, 0, "Dots1ForCausalLM", "dots1", "compressed-tensors", "_scale", dtype.BF16, "", false},
	// The tower has 2 tensors and 9 in each of 2 layers; 4 project.
	"mistral4":   {3 + 2*(5+3*(5+3+2)) + 24, 2 * 10, 0, "Mistral3ForConditionalGeneration", "mistral3/mistral4", "fp8", "_scale_inv", dtype.BF16, "activation_scale", false},
	"ministral3": {3 + 2*(2+3*7) + 24, 2 * 7, 0, "Mistral3ForConditionalGeneration", "mistral3/ministral3", "fp8", "_scale_inv", dtype.BF16, "activation_scale", false},
	"minimax":    {3 + 2*(6+2*16), 2 * 16, 0, "MiniMaxM2ForCausalLM", "minimax_m2", "fp8", "_scale_inv", dtype.F32, "", true},
	// Attention has 4 norms and 5 projections; 3 prediction layers 5 more and a dense MLP.
	"step3p5": {3 + (9 + 3) + 2*(9+5+2*3) + 3*(9+5+3), 2 * 3, 3 * 17, "Step3p5ForCausalLM", "step3p5", "fp8", "_scale_inv", dtype.F32, "", true},
	// MEMEM*E: each layer has a norm. Mamba has 8 tensors, 2 of them scaled except before attention;
	// experts have 2 projections, and shared ones 2.
	"nemotron_h": {3 + 7 + 2*(6+2*3) + 8 + 6 + 3*(2+10*3), 2*2 + 3*10, 0, "NemotronHForCausalLM", "nemotron_h", "modelopt", "_scale", dtype.F32, "input_scale", false},
	// The tower has 9 tensors, 16 in each of 2 layers, and one projection.
	"llama4": {3 + 2*(6+3) + 2*(6+3+1+2*12) + 42, 2 * 12, 0, "Llama4ForConditionalGeneration", "llama4/llama4_text", "compressed-tensors",
		"_scale", dtype.BF16, "", false},
	"bailing_moe":   {3 + (4 + 2*5) + 2*(6+2*17) + (6 + 17 + 4), 5 + 2*17, 27, "BailingMoeV2ForCausalLM", "bailing_moe", "fp8", "_scale_inv", dtype.F32, "", true},
	"hunyuan":       {2 + 2*(5+3*19), 2 * 19, 0, "HunYuanMoEV1ForCausalLM", "hunyuan", "fp8", "_scale", dtype.F32, "input_scale", false},
	"longcat_flash": {3 + 2*(8+2+2*(16+12)) + (2 + 7 + 2*8), 2*28 + 8, 25, "LongcatFlashForCausalLM", "longcat_flash", "fp8", "_scale_inv", dtype.F32, "", true},
	"ernie4_5_moe":  {2 + (2 + 2*7) + 2*(4+2*19) + (2 + 7 + 3), 7 + 2*19, 12, "Ernie4_5_MoeForCausalLM", "ernie4_5_moe", "compressed-tensors", "_scale", dtype.BF16, "", false},
	// o_proj is not scaled; all layers but the first have sinks; 3 prediction layers have 4 more.
	"mimo_v2_flash": {3 + (3 + 2*6) + 2*(6+2*15) + 3*(8+2*6), 6 + 2*15 + 3*6, 60, "MiMoV2FlashForCausalLM", "mimo_v2_flash", "fp8", "_scale_inv", dtype.F32, "", true},
}

func TestFamilies(t *testing.T) {
	needtest.Alone(t)
	assert.Len(t, expected, len(Families()))
	for _, name := range Families() {
		t.Run(name, func(t *testing.T) {
			if name == MoE && !needtest.Long() {
				t.Skip("62,303 tensors, whose names TestDefaultHasTheReleasesKeys compares (METALCAST_LONG=1 runs it)")
			}
			want, ok := expected[name]
			require.True(t, ok)
			c := write(t, Options{Family: name})
			assert.Equal(t, want.tensors, c.Tensors)

			config := c.config(t)
			modelType := config["model_type"].(string)
			if text, ok := config["text_config"].(map[string]any); ok {
				modelType += "/" + text["model_type"].(string)
			}
			assert.Equal(t, []any{want.class}, config["architectures"])
			assert.Equal(t, want.modelType, modelType)
			assert.Equal(t, want.method, config["quantization_config"].(map[string]any)["quant_method"])
			text, err := os.ReadFile(filepath.Join(c.Dir, "config.json"))
			require.NoError(t, err)
			assert.NotContains(t, string(text), `"$`, "every value is filled in")

			scaled := 0
			for n, x := range c.tensors {
				if x.DType != dtype.F8E4M3 {
					continue
				}
				scaled++
				s := c.tensors[n+want.suffix]
				shape := append([]int64{}, x.Shape...)
				r := len(shape) - 2
				switch {
				case want.block:
					shape[r], shape[r+1] = (shape[r]+127)/128, (shape[r+1]+127)/128
				case want.activations == "":
					shape[r+1] = 1
				case r == 0:
					shape = []int64{}
				default:
					shape[r], shape[r+1] = 1, 1
				}
				assert.Equal(t, want.scales, s.DType, n)
				assert.Equal(t, shape, s.Shape, n)
				if want.activations != "" {
					a, ok := c.tensors[strings.TrimSuffix(n, "weight")+strings.Repeat("_", r)+want.activations]
					assert.True(t, ok, n)
					assert.Equal(t, want.scales, a.DType, n)
				}
			}
			assert.Equal(t, want.scaled, scaled)
			assert.Equal(t, want.drops, c.count(func(n string) bool {
				m := layerName.FindStringSubmatch(n)
				return strings.Contains(n, "mtp") || m != nil && m[2] >= strconv.Itoa(c.Layers) && c.Layers < 10
			}), "tensors of a prediction head")
			complete(t, c)
			tensors, bytes := measured(t, Options{Family: name})
			assert.Equal(t, c.Tensors, tensors, "measure and model agree")
			assert.Equal(t, c.Bytes, bytes)
		})
	}
}

var (
	layerName  = regexp.MustCompile(`^((?:model\.|backbone\.|language_model\.model\.|model\.language_model\.)layers)\.(\d+)\.`)
	expertName = regexp.MustCompile(`^(.*\.experts)\.(\d+)\.(.*)$`)
)

// complete checks that layers and experts are numbered from 0 without gaps, and are as many as the
// summary and the config say.
func complete(t *testing.T, c *checkpoint) {
	t.Helper()
	layers, experts := map[int]bool{}, map[string]map[int]bool{}
	for name := range c.tensors {
		if m := layerName.FindStringSubmatch(name); m != nil {
			n, err := strconv.Atoi(m[2])
			require.NoError(t, err)
			layers[n] = true
		}
		if m := expertName.FindStringSubmatch(name); m != nil {
			n, err := strconv.Atoi(m[2])
			require.NoError(t, err)
			if experts[m[1]+m[3]] == nil {
				experts[m[1]+m[3]] = map[int]bool{}
			}
			experts[m[1]+m[3]][n] = true
		}
	}
	config := c.config(t)
	if text, ok := config["text_config"].(map[string]any); ok {
		config = text
	}
	if n, ok := config["num_hidden_layers"]; ok {
		assert.EqualValues(t, c.Layers, n)
	} else {
		assert.EqualValues(t, c.Layers, config["num_layers"])
	}
	for l := range len(layers) {
		assert.True(t, layers[l], "layer %d", l)
	}
	assert.GreaterOrEqual(t, len(layers), c.Layers)
	for where, found := range experts {
		for e := range c.Experts {
			assert.True(t, found[e], "%s: expert %d", where, e)
		}
		assert.Len(t, found, c.Experts, where)
	}
}

// Properties of one family that no other has.
func TestPeculiarities(t *testing.T) {
	needtest.Alone(t)
	for name, tensors := range map[string]map[string]string{
		"qwen3_next": {
			"model.layers.0.linear_attn.in_proj_qkvz.weight":      "F8_E4M3 [768 256]",
			"mtp.layers.0.mlp.experts.3.up_proj.weight_scale_inv": "BF16 [1 2]",
		},
		"qwen3_vl_moe": {
			"model.language_model.layers.1.mlp.experts.gate_up_proj_scale_inv": "BF16 [4 2 2]",
			"model.language_model.layers.1.mlp.experts.gate_up_proj":           "F8_E4M3 [4 256 256]",
			"model.visual.deepstack_merger_list.0.norm.weight":                 "BF16 [256]",
		},
		"deepseek_v3": {
			"model.layers.0.self_attn.kv_a_proj_with_mqa.weight":           "F8_E4M3 [160 256]",
			"model.layers.0.self_attn.kv_a_proj_with_mqa.weight_scale_inv": "F32 [2 2]",
			"model.layers.3.shared_head.head.weight":                       "BF16 [512 256]",
			"model.layers.1.mlp.gate.e_score_correction_bias":              "F32 [4]",
			"model.layers.0.mlp.up_proj.weight":                            "F8_E4M3 [384 256]",
		},
		"glm_moe_dsa": {
			"model.layers.0.self_attn.kv_b_proj.weight":            "F8_E4M3 [896 128]",
			"model.layers.2.self_attn.indexer.weights_proj.weight": "BF16 [2 256]",
		},
		"glm4_moe": {
			"model.layers.3.eh_proj.weight":                       "BF16 [256 512]",
			"model.layers.2.mlp.experts.3.down_proj.weight_scale": "F32 [256 1]",
			"model.layers.0.self_attn.q_proj.bias":                "BF16 [256]",
		},
		"mistral4": {
			"language_model.model.layers.0.mlp.experts.gate_up_proj_scale_inv":     "BF16 [4 1 1]",
			"language_model.model.layers.0.mlp.experts.down_proj_activation_scale": "BF16 [4]",
			"language_model.model.layers.0.self_attn.o_proj.activation_scale":      "BF16 []",
			"vision_tower.transformer.layers.1.feed_forward.up_proj.weight":        "BF16 [128 64]",
		},
		"minimax": {
			"model.layers.1.block_sparse_moe.experts.3.w2.weight":     "F8_E4M3 [256 128]",
			"model.layers.1.block_sparse_moe.e_score_correction_bias": "F32 [4]",
		},
		"step3p5": {
			"model.layers.1.moe.down_proj.weight":                  "F8_E4M3 [4 256 128]",
			"model.layers.1.moe.down_proj.weight_scale_inv":        "F32 [4 2 1]",
			"model.layers.1.self_attn.q_proj.weight":               "BF16 [384 256]",
			"model.layers.5.transformer.shared_head.output.weight": "BF16 [512 256]",
		},
		"nemotron_h": {
			"backbone.layers.5.mixer.k_proj.k_scale":                "F32 []",
			"backbone.layers.5.mixer.k_proj.weight":                 "BF16 [128 256]",
			"backbone.layers.4.mixer.in_proj.weight":                "BF16 [648 256]",
			"backbone.layers.0.mixer.in_proj.weight":                "F8_E4M3 [648 256]",
			"backbone.layers.1.mixer.experts.0.up_proj.input_scale": "F32 []",
		},
		"llama4": {
			"language_model.model.layers.1.feed_forward.experts.3.gate_proj.weight_scale": "BF16 [128 1]",
			"language_model.model.layers.0.feed_forward.up_proj.weight":                   "BF16 [384 256]",
		},
		"bailing_moe": {
			"model.layers.3.mlp.experts.0.up_proj.weight":     "BF16 [128 256]",
			"model.layers.1.attention.query_key_value.weight": "F8_E4M3 [512 256]",
		},
		"longcat_flash": {
			"model.mtp.layers.0.transformer_layer.mlp.up_proj.weight": "F8_E4M3 [384 256]",
			"model.layers.1.self_attn.1.kv_b_proj.weight":             "F8_E4M3 [512 128]",
			"model.layers.0.mlp.router.classifier.weight":             "BF16 [6 256]",
		},
		"mimo_v2_flash": {
			"model.layers.1.self_attn.v_proj.weight":      "F8_E4M3 [256 256]",
			"model.layers.0.self_attn.k_proj.weight":      "F8_E4M3 [192 256]",
			"model.mtp.layers.2.pre_mlp_layernorm.weight": "BF16 [256]",
		},
	} {
		c := write(t, Options{Family: name})
		for n, want := range tensors {
			x, ok := c.tensors[n]
			assert.True(t, ok, "%s: %s", name, n)
			assert.Equal(t, want, fmt.Sprint(x.DType, " ", x.Shape), "%s: %s", name, n)
		}
	}
	c := write(t, Options{Family: "nemotron_h"})
	text, err := os.ReadFile(filepath.Join(c.Dir, "hf_quant_config.json"))
	require.NoError(t, err)
	assert.Contains(t, string(text), `"kv_cache_quant_algo": "FP8"`)
	assert.Contains(t, string(text), `"backbone.layers.5.mixer.q_proj"`)
	assert.Equal(t, "MEMEM*E", c.config(t)["hybrid_override_pattern"])
	assert.NoFileExists(t, filepath.Join(write(t, Options{Family: "nemotron_h", PerExpertBF16: true}).Dir, "hf_quant_config.json"))
}

// The scales of scale_fmt ue8m0 are powers of two, and not all the same.
func TestPowersOfTwo(t *testing.T) {
	c, seen := write(t, Options{Family: "deepseek_v32"}), map[float64]bool{}
	for name := range c.tensors {
		if isScale(name) {
			for v := range values(dtype.F32, c.data[name]) {
				seen[v] = true
			}
		}
	}
	for v := range seen {
		assert.Contains(t, []float64{1. / (1 << 14), 1. / (1 << 13), 1. / (1 << 12), 1. / (1 << 11), 1. / (1 << 10)}, v)
	}
	assert.Greater(t, len(seen), 2)
}

func TestFamiliesTakeOptions(t *testing.T) {
	needtest.Alone(t)
	for i, name := range Families() {
		for k, o := range []Options{
			{Layers: 1}, {Layers: 9, Hidden: 200, Intermediate: 72, Vocab: 600, ScaleType: dtype.F32, Shards: 1}, {Layers: 2, PerExpertBF16: true},
		} {
			if i%3 != k && !needtest.Long() {
				continue
			}
			o.Family = name
			f, _ := familyOf(name)
			if f.full.experts > 0 {
				o.Experts = 3
			}
			if f.stacked {
				o.PerExpertBF16 = false
			}
			c := write(t, o)
			complete(t, c)
			assert.Equal(t, o.PerExpertBF16, c.config(t)["quantization_config"] == nil, name)
			for n, x := range c.tensors {
				assert.False(t, o.PerExpertBF16 && (x.DType == dtype.F8E4M3 || strings.Contains(n, "_scale")), n)
			}
			tensors, bytes := measured(t, o)
			assert.Equal(t, c.Tensors, tensors, "%s: measure and model agree", name)
			assert.Equal(t, c.Bytes, bytes)
		}
		_, bytes := measured(t, Options{Family: name, Size: 20e9})
		assert.InEpsilon(t, 20e9, bytes, 0.10, name)
	}
}

func TestAliases(t *testing.T) {
	for alias, name := range map[string]string{"minimax_m2": "minimax", "hunyuan_v1_moe": "hunyuan"} {
		assert.Equal(t, name, write(t, Options{Family: alias}).Family)
	}
}
