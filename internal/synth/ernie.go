package synth

// ernie has the tensors of its prediction head beside the layers, under names of their own.
var ernie = &family{
	name: "ernie4_5_moe", release: "baidu/ERNIE-4.5-21B-A3B-PT in FP8-dynamic", dialect: channelB16, mtp: always, rejects: rejectsScales,
	full: dims{
		layers: 28, firstDense: 1, hidden: 2560, dense: 12288, experts: 64, topK: 6, intermediate: 1536, shared: 2, vocab: 103424,
		heads: 20, kvHeads: 4, headDim: 128,
	},
	reduced: dims{
		layers: 3, firstDense: 1, hidden: 256, dense: 384, experts: 4, topK: 2, intermediate: 128, shared: 2, vocab: 512, heads: 4, kvHeads: 2, headDim: 64,
	},
	parts: func(_ Options, d dims) []part {
		base := append(d.norms(layerNorm), under("self_attn.", d.grouped(projection))...)
		dense := under("mlp.", d.gated(projection, d.dense))
		frame := d.frame("", "model.", layerNorm)
		frame.rows = frame.rows[1:] // lm_head is embed_tokens
		return []part{
			frame,
			span("model.layers.@.", 0, d.firstDense, base, dense),
			span("model.layers.@.", d.firstDense, d.layers, base,
				under("mlp.shared_experts.", d.gated(projection, d.shared*d.intermediate)), under("mlp.", []spec{
					row("gate.weight", router, d.experts, d.hidden),
					row("moe_statics.e_score_correction_bias", correction, 1, d.experts),
				}, d.gatedExperts())),
			once("model.", under("mtp_block.0.", unscaled(base, dense)), []spec{
				row("mtp_emb_norm.0.weight", layerNorm, d.hidden),
				row("mtp_hidden_norm.0.weight", layerNorm, d.hidden),
				row("mtp_linear_proj.0.weight", matrix, d.hidden, 2*d.hidden),
			}).asMTP(),
		}
	},
	values: func(m *model) map[string]any { return map[string]any{"last": m.layers - 1} },
}
