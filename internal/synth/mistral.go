package synth

import "slices"

// The Mistral models with a vision tower: model_type mistral3, the language model's own in
// text_config. Each matrix has one scale.
var mistral = []*family{
	{
		name: "mistral4", release: "mistralai/Mistral-Small-4-119B-A6B", dialect: wholeInv, stacked: true, vision: always, rejects: rejectsNothing,
		full: dims{
			layers: 36, hidden: 4096, dense: 12288, experts: 128, topK: 4, intermediate: 2048, shared: 1, vocab: 131072,
			heads: 32, kvHeads: 32, qLora: 1024, kvLora: 256, nope: 64, rope: 64, valueDim: 128,
		},
		reduced: dims{
			layers: 2, hidden: 256, dense: 384, experts: 4, topK: 2, intermediate: 128, shared: 1, vocab: 512,
			heads: 4, kvHeads: 4, qLora: 64, kvLora: 128, nope: 64, rope: 32, valueDim: 64,
		},
		parts: func(_ Options, d dims) []part {
			return d.wrapped(d.norms(layerNorm), under("self_attn.", d.latent()),
				under("mlp.shared_experts.", d.gated(projection, d.shared*d.intermediate)), under("mlp.", []spec{
					row("gate.weight", matrix, d.experts, d.hidden),
					row("experts.gate_up_proj", stack, d.experts, 2*d.intermediate, d.hidden),
					row("experts.down_proj", stack, d.experts, d.hidden, d.intermediate),
				}))
		},
		values: pixtralValues,
	},
	{
		// mlx-lm knows every tensor, and multiplies FP8 codes as if they were integers.
		name: "ministral3", release: "mistralai/Ministral-3-8B-Instruct-2512", dialect: wholeInv, vision: always, rejects: rejectsNothing,
		full:    dims{layers: 34, hidden: 4096, intermediate: 14336, vocab: 131072, heads: 32, kvHeads: 8, headDim: 128},
		reduced: dims{layers: 2, hidden: 256, intermediate: 384, vocab: 512, heads: 4, kvHeads: 2, headDim: 64},
		parts: func(_ Options, d dims) []part {
			return d.wrapped(d.norms(layerNorm), under("self_attn.", d.grouped(projection)), under("mlp.", d.gated(projection, d.intermediate)))
		},
		values: pixtralValues,
	},
}

// wrapped is a language model of such layers with its vision tower.
func (d dims) wrapped(layer ...[]spec) []part {
	return slices.Concat([]part{
		d.frame("language_model.", "language_model.model.", layerNorm),
		span("language_model.model.layers.@.", 0, d.layers, layer...),
	}, pixtralTower(d))
}

// pixtralValues describes the tower.
func pixtralValues(*model) map[string]any {
	v := vision
	return map[string]any{"vision": object{
		"attention_dropout":   0,
		"head_dim":            v.hidden / v.heads,
		"hidden_act":          "silu",
		"hidden_size":         v.hidden,
		"image_size":          v.patch * v.positions,
		"initializer_range":   0.02,
		"intermediate_size":   v.intermediate,
		"model_type":          "pixtral",
		"num_attention_heads": v.heads,
		"num_channels":        v.channels,
		"num_hidden_layers":   v.depth,
		"patch_size":          v.patch,
		"rope_parameters":     object{"rope_theta": 10000, "rope_type": "default"},
	}}
}
