package synth

var minimax = &family{
	name: "minimax", alias: "minimax_m2", release: "MiniMaxAI/MiniMax-M2", dialect: blocksF32, rejects: rejectsNothing,
	full:    dims{layers: 62, hidden: 3072, experts: 256, topK: 8, intermediate: 1536, vocab: 200064, heads: 48, kvHeads: 8, headDim: 128},
	reduced: dims{layers: 2, hidden: 256, experts: 4, topK: 2, intermediate: 128, vocab: 512, heads: 4, kvHeads: 2, headDim: 64},
	parts: func(_ Options, d dims) []part {
		return []part{d.frame("", "model.", layerNorm), span("model.layers.@.", 0, d.layers, d.norms(layerNorm),
			under("self_attn.", d.grouped(projection), []spec{ // normalised over all heads at once
				row("q_norm.weight", layerNorm, d.heads*d.head()),
				row("k_norm.weight", layerNorm, d.kvHeads*d.head()),
			}),
			under("block_sparse_moe.", []spec{
				row("gate.weight", router, d.experts, d.hidden),
				row("e_score_correction_bias", correction, d.experts),
			}, each(d.experts, []spec{
				row("experts.#.w1.weight", expert, d.intermediate, d.hidden), // gate
				row("experts.#.w2.weight", expert, d.hidden, d.intermediate), // down
				row("experts.#.w3.weight", expert, d.intermediate, d.hidden), // up
			})))}
	},
	values: func(m *model) map[string]any {
		return map[string]any{"attention_types": times(m.layers, 1), "rotary_dim": m.head() / 2}
	},
}
