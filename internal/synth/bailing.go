package synth

// bailing is Ling 2.0. Its prediction layer stays in BF16, as in Ling-2.6.
var bailing = &family{
	name: "bailing_moe", release: "inclusionAI/Ling-1T-FP8", dialect: blocksF32, mtp: always, rejects: rejectsBoth,
	full: dims{
		layers: 80, firstDense: 4, hidden: 8192, dense: 18432, experts: 256, topK: 8, intermediate: 2048, shared: 1, vocab: 157184, heads: 64, kvHeads: 8,
	},
	reduced: dims{
		layers: 3, firstDense: 1, hidden: 256, dense: 384, experts: 4, topK: 2, intermediate: 128, shared: 1, vocab: 512, heads: 4, kvHeads: 2,
	},
	parts: func(_ Options, d dims) []part {
		base := append(d.norms(layerNorm), under("attention.", []spec{
			row("query_key_value.weight", projection, (d.heads+2*d.kvHeads)*d.head(), d.hidden),
			row("dense.weight", projection, d.hidden, d.heads*d.head()),
			row("query_layernorm.weight", layerNorm, d.head()),
			row("key_layernorm.weight", layerNorm, d.head()),
		})...)
		experts := under("mlp.", d.router("gate.expert_bias"), d.gatedExperts())
		frame := d.frame("", "model.", layerNorm)
		frame.rows[1].name = "model.word_embeddings.weight"
		return []part{
			frame,
			span("model.layers.@.", 0, d.firstDense, base, under("mlp.", d.gated(projection, d.dense))),
			span("model.layers.@.", d.firstDense, d.layers, base, experts),
			span("model.layers.@.", d.layers, d.layers+1, unscaled(base, experts), []spec{
				row("eh_proj.weight", matrix, d.hidden, 2*d.hidden),
				row("enorm.weight", layerNorm, d.hidden),
				row("hnorm.weight", layerNorm, d.hidden),
				row("final_layernorm.weight", layerNorm, d.hidden),
			}).asMTP(),
		}
	},
}

// unscaled returns the tables with nothing in FP8.
func unscaled(tables ...[]spec) []spec {
	rows := under("", tables...)
	for i := range rows {
		if rows[i].kind.isQuantized() {
			rows[i].kind = matrix
		}
	}
	return rows
}
