package plan_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	. "github.com/metalcast/metalcast/internal/checkpoint/checkpointtest"
	"github.com/metalcast/metalcast/internal/dtype"
	"github.com/metalcast/metalcast/internal/fault"
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

// gemma is a gemma4 whose experts a quantizer took apart, in rows of 2 and columns of 4.
func gemma(infix string) *Checkpoint {
	c := &Checkpoint{Files: map[string]string{"config.json": `{"model_type":"gemma4","text_config":{"num_hidden_layers":1,"num_experts":3}}`}, Shards: map[string][]Tensor{}}
	for e := range 3 {
		for _, p := range []string{"gate_proj", "up_proj", "down_proj"} {
			shape := []int{2, 4}
			if p == "down_proj" {
				shape = []int{4, 2}
			}
			name := fmt.Sprintf("model.language_model.layers.0.%s%d.%s.weight", infix, e, p)
			c.Shards["model.safetensors"] = append(c.Shards["model.safetensors"], Tensor{Name: name, DType: "F8_E4M3", Shape: shape},
				Tensor{Name: name + "_scale", DType: "BF16", Shape: []int{shape[0], 1}})
		}
	}
	return c
}

func TestExpertsOfGemmaAreStacked(t *testing.T) {
	for _, infix := range []string{"experts.", "moe.experts."} {
		p, err := planOf(t, gemma(infix), plan.Options{})
		require.NoError(t, err)
		got := map[string]string{}
		for _, x := range p.Tensors {
			got[x.Name] = fmt.Sprint(x.Shape)
		}
		const e = "model.language_model.layers.0.experts."
		assert.Equal(t, map[string]string{e + "gate_up_proj": "[3 4 4]", e + "down_proj": "[3 4 2]"}, got)
		assert.Empty(t, p.MLXProblem())
	}
	c := gemma("experts.")
	c.Remove("experts.1.up_proj")
	_, err := planOf(t, c, plan.Options{})
	require.ErrorIs(t, err, fault.ErrIncomplete)
}

func TestExpertsApartAreToldOfWhereNoTableKnowsThem(t *testing.T) {
	c := gemma("experts.")
	c.Files["config.json"] = `{"model_type":"unheard_of","num_hidden_layers":1}`
	p, err := planOf(t, c, plan.Options{})
	require.NoError(t, err)
	assert.Contains(t, strings.Join(p.SourceNotes, "\n"),
		"9 tensors are of one expert each and stay so, for metalcast does not know whether runtimes want them stacked; the first is model.language_model.layers.0.experts.0.gate_proj.weight")
	assert.NotEmpty(t, p.MLXProblem())

	c = gemma("other.experts.") // in a family that has them elsewhere
	c.Files["config.json"] = `{"model_type":"qwen3","num_hidden_layers":1}`
	p, err = planOf(t, c, plan.Options{})
	require.NoError(t, err)
	assert.Equal(t, "it has no place for model.language_model.layers.0.other.experts.0.gate_proj.weight", p.MLXProblem())
}

func TestHalvesBesideBFloat16AreToldOf(t *testing.T) {
	const note = "1 tensors stay float16 beside bfloat16 weights; MLX computes in float32 where the two meet"
	c := Moe(2)
	p, err := planOf(t, c, plan.Options{})
	require.NoError(t, err)
	assert.NotContains(t, strings.Join(p.Notes, "\n"), "float16 beside")
	c.Find("model.language_model.norm.weight").DType = "F16"
	p, err = planOf(t, c, plan.Options{})
	require.NoError(t, err)
	assert.Contains(t, strings.Join(p.Notes, "\n"), note)
	for _, to := range []dtype.DType{dtype.BF16, dtype.F16} {
		p, err = planOf(t, c, plan.Options{DType: to})
		require.NoError(t, err)
		assert.NotContains(t, strings.Join(p.Notes, "\n"), "float16 beside")
	}
}
