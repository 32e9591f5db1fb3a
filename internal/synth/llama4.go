package synth

import "slices"

// llama4 has experts in every second layer and, in Meta's release, scales only those.
var llama4 = &family{
	name: "llama4", release: "meta-llama/Llama-4-Maverick-17B-128E-Instruct-FP8", dialect: channelB16, vision: always, rejects: rejectsExperts,
	full: dims{
		layers: 48, hidden: 5120, dense: 16384, experts: 128, topK: 1, intermediate: 8192, shared: 1, vocab: 202048, heads: 40, kvHeads: 8, headDim: 128,
	},
	reduced: dims{
		layers: 4, hidden: 256, dense: 384, experts: 4, topK: 1, intermediate: 128, shared: 1, vocab: 512, heads: 4, kvHeads: 2, headDim: 64,
	},
	parts: func(_ Options, d dims) []part {
		base := append(d.norms(layerNorm), under("self_attn.", d.grouped(matrix))...)
		var even, odd []int
		for l := range d.layers {
			if l%2 == 0 {
				even = append(even, l)
			} else {
				odd = append(odd, l)
			}
		}
		return slices.Concat([]part{
			d.frame("language_model.", "language_model.model.", layerNorm),
			in("language_model.model.layers.@.", even, base, under("feed_forward.", d.gated(matrix, d.dense))),
			in("language_model.model.layers.@.", odd, base, under("feed_forward.shared_expert.", d.gated(matrix, d.intermediate)),
				under("feed_forward.", []spec{row("router.weight", matrix, d.experts, d.hidden)}, d.gatedExperts())),
		}, llamaTower(d))
	},
	values: llamaValues,
}

// llamaValues lists the layers that have experts, and those without a rotary embedding.
func llamaValues(m *model) map[string]any {
	v := vision
	var moe []int
	for l := 1; l < m.layers; l += 2 {
		moe = append(moe, l)
	}
	noRope := times(m.layers, 1) // 0 in every fourth layer
	for l := 3; l < m.layers; l += 4 {
		noRope[l] = 0
	}
	return map[string]any{"moe_layers": moe, "no_rope": noRope, "vision": object{
		"attention_dropout":              0,
		"hidden_act":                     "gelu",
		"hidden_size":                    v.hidden,
		"image_size":                     v.patch * 4,
		"initializer_range":              0.02,
		"intermediate_size":              v.intermediate,
		"model_type":                     "llama4_vision_model",
		"multi_modal_projector_bias":     false,
		"norm_eps":                       1e-5,
		"num_attention_heads":            v.heads,
		"num_channels":                   v.channels,
		"num_hidden_layers":              v.depth,
		"patch_size":                     v.patch,
		"pixel_shuffle_ratio":            0.5,
		"projector_dropout":              0,
		"projector_input_dim":            v.hidden,
		"projector_output_dim":           v.hidden,
		"rope_theta":                     10000,
		"vision_feature_layer":           -1,
		"vision_feature_select_strategy": "default",
		"vision_output_dim":              v.hidden,
	}}
}
