package family_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	. "github.com/metalcast/metalcast/internal/checkpoint/checkpointtest"
	"github.com/metalcast/metalcast/internal/family"
	"github.com/metalcast/metalcast/internal/fault"
)

// model is a checkpoint whose layers have these modules; a name that ends in .bias, .A_log or the
// like is a tensor's, any other a module's with a weight.
func model(config string, layers int, in func(layer int) []string, around ...string) *Checkpoint {
	c := &Checkpoint{Files: map[string]string{"config.json": config}, Shards: map[string][]Tensor{}}
	add := func(name string) {
		if !strings.HasSuffix(name, ".bias") && !strings.HasSuffix(name, "_log") && !strings.HasSuffix(name, "_bias") {
			name += ".weight"
		}
		c.Shards["model.safetensors"] = append(c.Shards["model.safetensors"], Tensor{Name: name, DType: "BF16", Shape: []int{2, 2}})
	}
	for l := range layers {
		for _, m := range in(l) {
			add(fmt.Sprintf("model.layers.%d.%s", l, m))
		}
	}
	for _, m := range append(around, "model.embed_tokens", "model.norm", "lm_head") {
		add(m)
	}
	return c
}

var (
	ends      = []string{"input_layernorm", "post_attention_layernorm"}
	attention = []string{"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj", "self_attn.q_norm", "self_attn.k_norm"}
	dense     = []string{"mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"}
	linear    = []string{"linear_attn.A_log", "linear_attn.dt_bias", "linear_attn.conv1d", "linear_attn.in_proj_qkv", "linear_attn.in_proj_z",
		"linear_attn.in_proj_a", "linear_attn.in_proj_b", "linear_attn.norm", "linear_attn.out_proj"}
	latent = []string{"self_attn.q_a_proj", "self_attn.q_a_layernorm", "self_attn.q_b_proj", "self_attn.kv_a_proj_with_mqa", "self_attn.kv_a_layernorm",
		"self_attn.kv_b_proj", "self_attn.o_proj"}
	mixture = []string{"mlp.gate", "mlp.experts.0.gate_proj", "mlp.experts.0.up_proj", "mlp.experts.0.down_proj", "mlp.experts.1.gate_proj",
		"mlp.experts.1.up_proj", "mlp.experts.1.down_proj"}
)

func flatOf(modelType string, layers int, more string) string {
	return fmt.Sprintf(`{"model_type":%q,"num_hidden_layers":%d,"tie_word_embeddings":false%s}`, modelType, layers, more)
}

// whole runs the check on a checkpoint.
func whole(t *testing.T, c *Checkpoint) ([]string, error) {
	t.Helper()
	v := open(t, c)
	f := family.Of(v.Config)
	sites, err := f.Sites(v, family.Options{})
	require.NoError(t, err)
	groups, err := f.Groups(v, sites)
	require.NoError(t, err)
	require.NoError(t, f.CheckLayers(v, groups))
	return f.CheckWhole(v, sites)
}

// What the tests below take away from sound models of these kinds.
var models = map[string]*struct {
	config string
	layers int
	in     func(layer int) []string
}{
	"dense": {flatOf("qwen3", 3, ""), 3, func(int) []string { return slices.Concat(ends, attention, dense) }},
	"one":   {flatOf("qwen3", 1, ""), 1, func(int) []string { return slices.Concat(ends, attention, dense) }},
	"biased": {flatOf("qwen3", 3, ""), 3, func(int) []string {
		return slices.Concat(ends, attention, dense, []string{"self_attn.q_proj.bias"})
	}},
	"hybrid": {flatOf("qwen3_5", 4, ""), 4, func(l int) []string {
		if l == 3 {
			return slices.Concat(ends, attention, dense)
		}
		return slices.Concat(ends, linear, dense)
	}},
	"latent": {flatOf("deepseek_v3", 3, `,"n_routed_experts":2`), 3, func(l int) []string {
		if l == 0 {
			return slices.Concat(ends, latent, dense)
		}
		return slices.Concat(ends, latent, mixture)
	}},
	"sinks": {flatOf("mimo_v2_flash", 4, `,"hybrid_layer_pattern":[0,1,0,1]`), 4, func(l int) []string {
		if l%2 == 1 {
			return slices.Concat(ends, attention, dense, []string{"self_attn.attention_sink_bias"})
		}
		return slices.Concat(ends, attention, dense)
	}},
	"shared": {flatOf("hunyuan", 4, `,"cla_share_factor":2`), 4, func(l int) []string {
		if l%2 == 1 {
			return slices.Concat(ends, []string{"self_attn.q_proj", "self_attn.o_proj"}, dense)
		}
		return slices.Concat(ends, attention[:4], dense)
	}},
	"searched": {flatOf("unheard_of", 3, `,"block_configs":[{"a":1},{"a":2},{"a":1}]`), 3, func(l int) []string {
		if l == 1 {
			return slices.Concat(ends, attention)
		}
		return slices.Concat(ends, attention, dense)
	}},
	"unheard of": {flatOf("unheard_of", 3, ""), 3, func(int) []string { return slices.Concat(ends, attention, mixture) }},
}

func TestSoundModelsAreWhole(t *testing.T) {
	for name, m := range models {
		warnings, err := whole(t, model(m.config, m.layers, m.in))
		require.NoError(t, err, name)
		assert.Empty(t, warnings, name)
	}
}

func TestMissingModules(t *testing.T) {
	for _, test := range []struct{ model, lost, want string }{
		{"dense", "layers.1.self_attn.q_proj", "layer 1: model.layers.1.self_attn.q_proj is in no shard; layer 0 has its like"},
		{"dense", "layers.2.self_attn.q_norm", "layer 2: model.layers.2.self_attn.q_norm is in no shard; layer 0 has its like"},
		{"dense", "layers.2.mlp.", "layer 2: model.layers.2.mlp is in no shard; layer 0 has its like"},
		{"dense", "layers.0.self_attn.", "layer 0: model.layers.0.self_attn is in no shard; layer 1 has its like"},
		{"dense", "layers.0.post_attention_layernorm", "layer 0: model.layers.0.post_attention_layernorm is in no shard; layer 1 has its like"},
		{"dense", "model.norm", "model.norm.weight is in no shard; its layers are there"},
		{"dense", "model.embed_tokens", "model.embed_tokens.weight is in no shard; its layers are there"},
		{"biased", "layers.1.self_attn.q_proj.bias", "layer 1: model.layers.1.self_attn.q_proj.bias is in no shard; layer 0 has its like"},
		{"biased", "layers.1.self_attn.q_proj.weight", "layer 1: model.layers.1.self_attn.q_proj.weight is in no shard; layer 0 has its like"},
		{"one", "self_attn.v_proj", "layer 0: model.layers.0.self_attn.v_proj is in no shard; model.layers.0.self_attn.k_proj is there"},
		{"one", "self_attn.k_norm", "layer 0: model.layers.0.self_attn.k_norm is in no shard; model.layers.0.self_attn.q_norm is there"},
		{"one", "mlp.gate_proj", "layer 0: model.layers.0.mlp.gate_proj is in no shard; model.layers.0.mlp.up_proj is there"},
		{"one", "mlp.", "layer 0: model.layers.0.mlp is in no shard; model.layers.0.post_attention_layernorm is there"},
		{"one", "self_attn.", "layer 0: model.layers.0.self_attn is in no shard; model.layers.0.input_layernorm is there"},
		{"hybrid", "layers.3.self_attn.k_norm", "layer 3: model.layers.3.self_attn.k_norm is in no shard; model.layers.3.self_attn.q_norm is there"},
		{"hybrid", "layers.3.mlp.", "layer 3: model.layers.3.mlp is in no shard; model.layers.3.post_attention_layernorm is there"},
		{"hybrid", "layers.1.linear_attn.A_log", "layer 1: model.layers.1.linear_attn.A_log is in no shard; layer 0 has its like"},
		{"latent", "layers.1.mlp.gate.", "layer 1: model.layers.1.mlp.gate is in no shard; layer 2 has its like"},
		{"latent", "layers.0.self_attn.kv_a_layernorm", "layer 0: model.layers.0.self_attn.kv_a_layernorm is in no shard; layer 1 has its like"},
		{"latent", "self_attn.kv_b_proj", "layer 0: model.layers.0.self_attn.kv_b_proj is in no shard; model.layers.0.self_attn.kv_a_proj_with_mqa is there"},
		{"sinks", "layers.3.self_attn.attention_sink_bias", "layer 3: model.layers.3.self_attn.attention_sink_bias is in no shard; layer 1 has its like"},
		{"shared", "layers.0.self_attn.k_proj", "layer 0: model.layers.0.self_attn.k_proj is in no shard; layer 2 has its like"},
	} {
		m := models[test.model]
		c := model(m.config, m.layers, m.in)
		c.Remove(test.lost)
		_, err := whole(t, c)
		require.ErrorIs(t, err, fault.ErrIncomplete, "%s without %s", test.model, test.lost)
		assert.Contains(t, err.Error(), test.want)
	}
}

func TestMissingModulesOfOtherModelsAreWarnings(t *testing.T) {
	for lost, want := range map[string]string{
		"layers.1.self_attn.q_proj":       "layer 1: model.layers.1.self_attn.q_proj is in no shard; layer 0 has its like",
		"layers.2.mlp.gate.":              "layer 2: model.layers.2.mlp.gate is in no shard; layer 0 has its like",
		"layers.2.mlp.experts.1.":         "layer 2: model.layers.2.mlp.experts.1 is in no shard; layer 0 has its like",
		"layers.0.mlp.experts.1.up_proj.": "layer 0: model.layers.0.mlp.experts.1.up_proj is in no shard; layer 0 has its like",
		"model.norm":                      "model.norm.weight is in no shard; its layers are there",
	} {
		m := models["unheard of"]
		c := model(m.config, m.layers, m.in)
		c.Remove(lost)
		warnings, err := whole(t, c)
		require.NoError(t, err)
		require.Len(t, warnings, 1, lost)
		assert.Contains(t, warnings[0], want)
	}
	// A listed family whose layers were pruned one by one.
	m := models["dense"]
	c := model(strings.Replace(m.config, "{", `{"drop_attn_list":[1],`, 1), m.layers, m.in)
	c.Remove("layers.1.self_attn.")
	warnings, err := whole(t, c)
	require.NoError(t, err)
	assert.NotEmpty(t, warnings)
}
