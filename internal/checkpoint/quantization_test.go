package checkpoint_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/metalcast/metalcast/internal/checkpoint"
	"github.com/metalcast/metalcast/internal/fault"
)

func TestQuantizationIsFoundInTheConfigsOfModelsInside(t *testing.T) {
	const q = `{"quant_method":"fp8","weight_block_size":[64,32]}`
	for _, text := range []string{
		`{"quantization_config":` + q + `}`,
		`{"text_config":{"quantization_config":` + q + `}}`,
		`{"quantization_config":{},"llm_config":{"quantization_config":` + q + `}}`,
		`{"language_config":{"quantization_config":` + q + `}}`,
		`{"quantization_config":null,"thinker_config":{"audio_config":{},"text_config":{"quantization_config":` + q + `}}}`,
		`{"talker_config":{"quantization_config":` + q + `},"thinker_config":{"quantization_config":{"weight_block_size":[64, 32]}}}`,
	} {
		c, err := checkpoint.ParseConfig([]byte(text))
		require.NoError(t, err)
		sizes, err := c.BlockSizes()
		require.NoError(t, err)
		assert.Equal(t, [][2]int64{{64, 32}}, sizes, text)
	}
}

func TestQuantizationsThatDisagree(t *testing.T) {
	for text, want := range map[string]string{
		`{"quantization_config":{"weight_block_size":[128,128]},"text_config":{"quantization_config":{"weight_block_size":[64,64]}}}`:    "weight_block_size is [128,128] in quantization_config and [64,64] in text_config.quantization_config",
		`{"thinker_config":{"text_config":{"quantization_config":{"quant_method":"fp8"}}},"quantization_config":{"quant_method":"awq"}}`: `quant_method is "fp8" in thinker_config.text_config.quantization_config and "awq" in quantization_config`,
	} {
		c, err := checkpoint.ParseConfig([]byte(text))
		require.NoError(t, err)
		_, err = c.BlockSizes()
		require.ErrorIs(t, err, fault.ErrCorrupt)
		assert.Contains(t, err.Error(), want)
	}
}
