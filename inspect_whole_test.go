package metalcast_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/metalcast/metalcast"
	. "github.com/metalcast/metalcast/internal/checkpoint/checkpointtest"
)

// What runtimes do with a checkpoint is said of whole ones; nobody tried the others.
func TestInspectClaimsNothingOfWhatIsNotWhole(t *testing.T) {
	r, err := metalcast.Inspect(t.Context(), Moe(2).Write(t), metalcast.InspectOptions{})
	require.NoError(t, err)
	assert.NotEmpty(t, r.Runtimes)

	c := Moe(2)
	c.Remove("experts.1.up_proj")
	r, err = metalcast.Inspect(t.Context(), c.Write(t), metalcast.InspectOptions{})
	require.NoError(t, err)
	assert.NotEmpty(t, r.Problem)
	assert.Empty(t, r.Runtimes)

	c = Moe(2)
	c.Shards["model.safetensors"] = append(c.Shards["model.safetensors"], Tensor{Name: "model.language_model.embed_tokens.weight", DType: "BF16", Shape: []int{1, 4}})
	r, err = metalcast.Inspect(t.Context(), c.Write(t), metalcast.InspectOptions{})
	require.NoError(t, err)
	require.Len(t, r.Runtimes, 1)
	assert.Contains(t, r.Runtimes[0].Does, "there is no lm_head.weight: mlx-lm will not load it")
}

func TestNothingToConvertNamesNoRuntimeThatMissesTheHead(t *testing.T) {
	c := &Checkpoint{
		Files:  map[string]string{"config.json": `{"model_type":"qwen3","tie_word_embeddings":false}`},
		Shards: map[string][]Tensor{"model.safetensors": {{Name: "model.embed_tokens.weight", DType: "BF16", Shape: []int{8, 4}}, {Name: "model.norm.weight", DType: "BF16", Shape: []int{4}}, {Name: "model.layers.0.x.weight", DType: "BF16", Shape: []int{4, 4}}}},
	}
	_, err := metalcast.Convert(t.Context(), c.Write(t), filepath.Join(t.TempDir(), "dst"), metalcast.Options{})
	require.ErrorIs(t, err, metalcast.ErrNothingToDo)
	assert.ErrorContains(t, err, "except for mlx-lm (tie_word_embeddings is false and there is no lm_head.weight")
}

// Runtimes make the model by the config: sizes that contradict it are a warning, and nobody is said
// to load them.
func TestSizesThatContradictTheConfigAreTold(t *testing.T) {
	c := Moe(2)
	c.Files["config.json"] = strings.Replace(c.Files["config.json"], `"num_experts"`, `"vocab_size": 9, "hidden_size": 4, "tie_word_embeddings": true, "num_experts"`, 1)
	c.Shards["model.safetensors"] = append(c.Shards["model.safetensors"], Tensor{Name: "model.language_model.embed_tokens.weight", DType: "BF16", Shape: []int{8, 4}})
	const want = "model.language_model.embed_tokens.weight has shape [8 4], and config.json says vocab_size 9, hidden_size 4"
	r, err := metalcast.Inspect(t.Context(), c.Write(t), metalcast.InspectOptions{})
	require.NoError(t, err)
	require.Len(t, r.Runtimes, 1)
	assert.Contains(t, r.Runtimes[0].Does, want)
	p, err := metalcast.PlanConversion(t.Context(), c.Write(t), metalcast.Options{})
	require.NoError(t, err)
	assert.Contains(t, p.MLXProblem, want)
	assert.Contains(t, strings.Join(p.Notes, "\n"), want)
	c.Files["config.json"] = strings.Replace(c.Files["config.json"], `"vocab_size": 9`, `"vocab_size": 8`, 1)
	p, err = metalcast.PlanConversion(t.Context(), c.Write(t), metalcast.Options{})
	require.NoError(t, err)
	assert.Empty(t, p.MLXProblem)
}

// A plain checkpoint is usable; who was seen to load it is said, and that nobody was.
func TestInspectSaysWhoLoadsAPlainCheckpoint(t *testing.T) {
	plain := func(modelType string) string {
		return (&Checkpoint{
			Files:  map[string]string{"config.json": `{"model_type":"` + modelType + `"}`},
			Shards: map[string][]Tensor{"model.safetensors": {{Name: "model.layers.0.x.weight", DType: "BF16", Shape: []int{4, 4}}}},
		}).Write(t)
	}
	for modelType, want := range map[string]string{"qwen3": "usable as it is by mlx-lm 0.32.2", "unheard_of": "is not a family that metalcast knows"} {
		r, err := metalcast.Inspect(t.Context(), plain(modelType), metalcast.InspectOptions{})
		require.NoError(t, err)
		assert.True(t, r.Usable)
		assert.Contains(t, r.Why, want)
	}
}
