package plan_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	. "github.com/metalcast/metalcast/internal/checkpoint/checkpointtest"
	"github.com/metalcast/metalcast/internal/plan"
)

func TestQuantizationIsGoneFromTheConfigsOfModelsInside(t *testing.T) {
	c := Moe(2)
	const q = `"quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]}, "compression_config": {}`
	c.Files["config.json"] = strings.Replace(c.Files["config.json"], `"text_config": {`, `"thinker_config": {`+q+`, "text_config": {`+q+`, "a": 1}},
  "talker_config": {"quantization_config": null},
  "text_config": {`, 1)
	p, err := planOf(t, c, plan.Options{})
	require.NoError(t, err)
	config := string(p.Texts[len(p.Texts)-1].Data)
	assert.NotContains(t, config, "quantization_config")
	assert.NotContains(t, config, "compression_config")
	assert.Contains(t, config, `"a": 1`)
}
