package synth

var hunyuan = &family{
	name: "hunyuan", alias: "hunyuan_v1_moe", release: "tencent/Hunyuan-A13B-Instruct-FP8", dialect: wholeInput, rejects: rejectsScales,
	full:    dims{layers: 32, hidden: 4096, experts: 64, topK: 8, intermediate: 3072, shared: 1, vocab: 128167, heads: 32, kvHeads: 8},
	reduced: dims{layers: 2, hidden: 256, experts: 4, topK: 2, intermediate: 128, shared: 1, vocab: 512, heads: 4, kvHeads: 2},
	parts: func(_ Options, d dims) []part {
		frame := d.frame("", "model.", layerNorm)
		frame.rows = frame.rows[1:] // lm_head is embed_tokens
		return []part{frame, span("model.layers.@.", 0, d.layers, d.norms(layerNorm),
			under("self_attn.", d.grouped(projection), []spec{
				row("query_layernorm.weight", layerNorm, d.head()),
				row("key_layernorm.weight", layerNorm, d.head()),
			}),
			under("mlp.shared_mlp.", d.gated(projection, d.shared*d.intermediate)),
			under("mlp.", []spec{row("gate.wg.weight", router, d.experts, d.hidden)}, d.gatedExperts()))}
	},
	values: func(m *model) map[string]any {
		return map[string]any{
			"top_k": times(m.layers, m.topK), "shared": times(m.layers, m.shared), "moe_intermediate": times(m.layers, m.intermediate),
		}
	},
}
