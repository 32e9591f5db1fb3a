package synth

// mimo has keys wider than values, and, in all layers but every sixth, sliding attention with sinks
// and more keys.
var mimo = &family{
	name: "mimo_v2_flash", release: "XiaomiMiMo/MiMo-V2-Flash", dialect: blocksF32, mtp: always, rejects: rejectsNothing,
	full: dims{
		layers: 48, firstDense: 1, hidden: 4096, dense: 16384, experts: 256, topK: 8, intermediate: 2048, vocab: 152576,
		heads: 64, kvHeads: 4, headDim: 192, valueDim: 128,
	},
	reduced: dims{
		layers: 3, firstDense: 1, hidden: 256, dense: 384, experts: 4, topK: 2, intermediate: 128, vocab: 512, heads: 4, kvHeads: 1, headDim: 192, valueDim: 128,
	},
	parts: mimoParts,
	values: func(m *model) map[string]any {
		pattern, experts := times(m.layers, 1), times(m.layers, 1)
		for l := range m.layers {
			if l%6 == 0 {
				pattern[l] = 0
			}
			if l < m.firstDense {
				experts[l] = 0
			}
		}
		return map[string]any{"pattern": pattern, "moe": experts, "sliding_kv_heads": 2 * m.kvHeads}
	},
}

func mimoParts(_ Options, d dims) []part {
	sliding := d
	sliding.kvHeads *= 2
	attention := func(d dims) []spec {
		return append(d.norms(layerNorm), under("self_attn.", []spec{
			row("q_proj.weight", projection, d.heads*d.headDim, d.hidden),
			row("k_proj.weight", projection, d.kvHeads*d.headDim, d.hidden),
			row("v_proj.weight", projection, d.kvHeads*d.valueDim, d.hidden),
			row("o_proj.weight", matrix, d.hidden, d.heads*d.valueDim),
		})...)
	}
	sink := row("self_attn.attention_sink_bias", bias, d.heads)
	dense := under("mlp.", d.gated(projection, d.dense))
	experts := under("mlp.", []spec{
		row("gate.weight", router, d.experts, d.hidden),
		row("gate.e_score_correction_bias", correction, d.experts),
	}, d.gatedExperts())
	parts := []part{d.frame("", "model.", layerNorm)}
	for l := range d.layers {
		mlp, base := experts, attention(d)
		if l < d.firstDense {
			mlp = dense
		}
		if l%6 != 0 {
			base = append(attention(sliding), sink)
		}
		parts = append(parts, in("model.layers.@.", []int{l}, base, mlp))
	}
	head := append(attention(sliding), sink,
		row("eh_proj.weight", matrix, d.hidden, 2*d.hidden),
		row("enorm.weight", layerNorm, d.hidden),
		row("hnorm.weight", layerNorm, d.hidden),
		row("final_layernorm.weight", layerNorm, d.hidden))
	head[1].name = "pre_mlp_layernorm.weight"
	return append(parts, span("model.mtp.layers.@.", 0, 3, head, dense).asMTP())
}
