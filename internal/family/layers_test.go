package family_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/metalcast/metalcast/internal/checkpoint"
	"github.com/metalcast/metalcast/internal/family"
)

func TestLayersAreCountedByTheFamilysKey(t *testing.T) {
	for config, want := range map[string]int{
		// As transformers saves it.
		`{"model_type":"longcat_flash","num_layers":2,"num_hidden_layers":4}`: 2,
		`{"model_type":"longcat_flash","num_layers":2}`:                       2,
		`{"model_type":"longcat_flash","num_hidden_layers":2}`:                2,
		`{"model_type":"qwen3","num_layers":2,"num_hidden_layers":4}`:         4,
		`{"model_type":"chatglm","num_layers":28}`:                            28,
		`{"model_type":"qwen3"}`:                                              0,
	} {
		c, err := checkpoint.ParseConfig([]byte(config))
		require.NoError(t, err)
		assert.Equal(t, want, family.Layers(c), config)
	}
}
