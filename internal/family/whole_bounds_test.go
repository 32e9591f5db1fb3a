package family_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/metalcast/metalcast/internal/checkpoint"
	. "github.com/metalcast/metalcast/internal/checkpoint/checkpointtest"
	"github.com/metalcast/metalcast/internal/family"
	"github.com/metalcast/metalcast/internal/needtest"
)

// Layers that take keys and values from others have queries alone, with their norm, in gemma4 as in
// Hunyuan.
func TestLayersThatShareKeysAreWhole(t *testing.T) {
	queries := []string{"self_attn.q_proj", "self_attn.q_norm", "self_attn.o_proj"}
	c := model(flatOf("qwen3", 4, `,"num_kv_shared_layers":2`), 4, func(layer int) []string {
		if layer < 2 {
			return slices.Concat(ends, attention, dense)
		}
		return slices.Concat(ends, queries, dense)
	})
	warnings, err := whole(t, c)
	require.NoError(t, err)
	assert.Empty(t, warnings)
}

// In MLX's quantized form each module may have another format, or none.
func TestMixedFormatsOfMLXAreWhole(t *testing.T) {
	c := model(flatOf("qwen3", 2, `,"quantization":{"bits":4,"group_size":64,"model.layers.0.mlp.down_proj":false}`), 2, func(int) []string {
		return slices.Concat(ends, attention, dense)
	})
	for _, end := range []string{"scales", "biases"} {
		c.Shards["model.safetensors"] = append(c.Shards["model.safetensors"], Tensor{Name: "model.layers.1.mlp.down_proj." + end, DType: "BF16", Shape: []int{2, 1}})
	}
	warnings, err := whole(t, c)
	require.NoError(t, err)
	assert.Empty(t, warnings)
}

// Names and forms that no model has take no time that grows with their square: without its bounds
// this test does not end.
func TestWholeIsQuickWithWhatNoModelHas(t *testing.T) {
	needtest.Alone(t)
	var list []Tensor
	for i := range 40_000 {
		list = append(list, Tensor{Name: fmt.Sprintf("layers.0.experts.%d.w%d", i, i), DType: "BF16", Shape: []int{0}})
	}
	list = append(list, Tensor{Name: "layers.0" + strings.Repeat(".a", 200_000) + ".weight", DType: "BF16", Shape: []int{0}})
	_, err := whole(t, &Checkpoint{Files: map[string]string{"config.json": `{"model_type":"unheard_of"}`}, Shards: map[string][]Tensor{"model.safetensors": list}})
	require.NoError(t, err)
}

// A matrix is a weight, whatever its name.
func TestMatricesAreNoCompanions(t *testing.T) {
	list := []Tensor{
		{Name: "model.layers.0.self_attn.k_proj.weight", DType: "BF16", Shape: []int{64, 64}}, {Name: "model.layers.0.self_attn.q_scale", DType: "BF16", Shape: []int{64, 64}},
		{Name: "model.layers.0.self_attn.k_scale", DType: "BF16", Shape: []int{1}}, {Name: "model.layers.0.mlp.experts.input_scale", DType: "F32", Shape: []int{8, 2}},
	}
	v := open(t, &Checkpoint{Files: map[string]string{"config.json": `{"model_type":"x"}`}, Shards: map[string][]Tensor{"model.safetensors": list}})
	sites, err := family.Of(v.Config).Sites(v, family.Options{})
	require.NoError(t, err)
	roles := map[string]family.Role{}
	for _, s := range sites {
		roles[s.Tensor.Name[len("model.layers.0."):]] = s.Role
	}
	assert.Equal(t, map[string]family.Role{"self_attn.k_proj.weight": family.Move, "self_attn.q_scale": family.Move, "self_attn.k_scale": family.Drop, "mlp.experts.input_scale": family.Drop}, roles)
}

// The config is read once, not for each tensor that an index names.
func TestNeedlessReadsTheConfigOnce(t *testing.T) {
	c, err := checkpoint.ParseConfig([]byte(`{"model_type":"qwen3","a":"` + strings.Repeat("x", 1<<20) + `","tie_word_embeddings":true}`))
	require.NoError(t, err)
	needless := family.Needless(c)
	for range 1_000_000 { // hours, otherwise
		if needless("model.norm.weight") {
			t.Fatal("the norm is needed")
		}
	}
}
