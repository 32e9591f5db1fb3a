package family_test

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/metalcast/metalcast/internal/checkpoint"
	"github.com/metalcast/metalcast/internal/family"
)

// consumers/test_whole.py holds all of this against mlx-lm.
func TestHeadProblem(t *testing.T) {
	const embeddings, head = "model.embed_tokens.weight", "lm_head.weight"
	for _, test := range []struct {
		config  string
		tensors []string
		want    string
	}{
		{`{"model_type":"qwen3","tie_word_embeddings":false}`, []string{embeddings}, "tie_word_embeddings is false and there is no lm_head.weight: mlx-lm will not load it"},
		{`{"model_type":"qwen3","tie_word_embeddings":false}`, []string{embeddings, head}, ""},
		{`{"model_type":"qwen3","tie_word_embeddings":false}`, nil, ""},
		{`{"model_type":"qwen3","tie_word_embeddings":true}`, []string{embeddings}, ""},
		{`{"model_type":"qwen3","tie_word_embeddings":true}`, []string{embeddings, head}, ""},
		{`{"model_type":"qwen3_5","tie_word_embeddings":true,"text_config":{}}`, []string{embeddings}, "tie_word_embeddings is true outside text_config, where mlx-lm does not look"},
		{`{"model_type":"qwen3_5","text_config":{}}`, []string{embeddings}, "text_config.tie_word_embeddings is not in config.json, which mlx-lm reads as false"},
		{`{"model_type":"qwen3_5","text_config":{"tie_word_embeddings":true}}`, []string{embeddings, head}, "text_config.tie_word_embeddings is true and there is an lm_head.weight all the same"},
		{`{"model_type":"deepseek_v3","tie_word_embeddings":true}`, []string{embeddings}, "mlx-lm's deepseek_v3 has an output head, tied or not"},
		{`{"model_type":"qwen3_vl_moe","text_config":{"tie_word_embeddings":true}}`, []string{embeddings, head}, "mlx-lm's qwen3_vl_moe has an output head of its own"},
		{`{"model_type":"qwen3","tie_word_embeddings":true}`, []string{"embed_tokens.weight", "layers.0.mlp.up_proj.weight"}, "a backbone alone, whose names begin with layers."},
		{`{"model_type":"hunyuan"}`, []string{embeddings, head}, "mlx-lm's hunyuan has no output head beside its embeddings"},
		{`{"model_type":"unheard_of","architectures":["XForCausalLM"],"tie_word_embeddings":false}`, []string{embeddings}, "tie_word_embeddings is false and there is no lm_head.weight"},
		{`{"model_type":"unheard_of","architectures":["XForCausalLM"],"tie_word_embeddings":false}`, []string{embeddings, "transformer.output_layer.weight"}, ""},
		{`{"model_type":"unheard_of","architectures":["XModel"],"tie_word_embeddings":false}`, []string{embeddings}, ""},
	} {
		c, err := checkpoint.ParseConfig([]byte(test.config))
		require.NoError(t, err)
		got := family.Of(c).HeadProblem(c, slices.Values(test.tensors))
		if test.want == "" {
			assert.Empty(t, got, "%s with %v", test.config, test.tensors)
			continue
		}
		assert.Contains(t, got, test.want, "%s with %v", test.config, test.tensors)
	}
}
