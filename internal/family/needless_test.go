package family_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/metalcast/metalcast/internal/checkpoint"
	"github.com/metalcast/metalcast/internal/family"
)

func TestNeedlessIsWhatNoOutputMustHave(t *testing.T) {
	for _, test := range []struct {
		config, tensor string
		want           bool
	}{
		{`{"model_type":"qwen3_5_moe"}`, "mtp.fc.weight", true},
		{`{"model_type":"unheard_of"}`, "mtp.layers.0.eh_proj.weight", true},
		{`{"model_type":"deepseek_v3","num_hidden_layers":2}`, "model.layers.2.eh_proj.weight", true},
		{`{"model_type":"deepseek_v3","num_hidden_layers":3}`, "model.layers.2.eh_proj.weight", false},
		{`{"model_type":"llama"}`, "model.layers.0.self_attn.rotary_emb.inv_freq", true},
		{`{"model_type":"qwen3","tie_word_embeddings":true}`, "lm_head.weight", true},
		{`{"model_type":"qwen3","tie_word_embeddings":false}`, "lm_head.weight", false},
		{`{"model_type":"qwen3","tie_word_embeddings":true}`, "model.norm.weight", false},
	} {
		c, err := checkpoint.ParseConfig([]byte(test.config))
		require.NoError(t, err)
		assert.Equal(t, test.want, family.Needless(c)(test.tensor), "%s in %s", test.tensor, test.config)
	}
}
