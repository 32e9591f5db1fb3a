package synth

// longcat has two attentions and two dense MLPs per layer, and experts that do nothing.
var longcat = &family{
	name: "longcat_flash", release: "meituan-longcat/LongCat-Flash-Chat-FP8", dialect: blocksF32, mtp: always, rejects: rejectsScales,
	full: dims{
		layers: 28, hidden: 6144, dense: 12288, experts: 512, topK: 12, intermediate: 2048, vocab: 131072,
		heads: 64, kvHeads: 64, qLora: 1536, kvLora: 512, nope: 128, rope: 64, valueDim: 128,
	},
	reduced: dims{
		layers: 2, hidden: 256, dense: 384, experts: 4, topK: 2, intermediate: 128, vocab: 512,
		heads: 4, kvHeads: 4, qLora: 64, kvLora: 128, nope: 64, rope: 32, valueDim: 64,
	},
	parts: func(_ Options, d dims) []part {
		half := func(i string) []spec {
			return append(under("", under("self_attn."+i+".", d.latent()), under("mlps."+i+".", d.gated(projection, d.dense))),
				row("input_layernorm."+i+".weight", layerNorm, d.hidden), row("post_attention_layernorm."+i+".weight", layerNorm, d.hidden))
		}
		return []part{
			d.frame("", "model.", layerNorm),
			span("model.layers.@.", 0, d.layers, half("0"), half("1"), under("mlp.", []spec{
				row("router.classifier.weight", matrix, d.experts+d.zeroExperts(), d.hidden),
				row("router.e_score_correction_bias", correction, d.experts+d.zeroExperts()),
			}, d.gatedExperts())),
			once("model.mtp.", []spec{
				row("embed_tokens.weight", matrix, d.vocab, d.hidden),
				row("norm.weight", layerNorm, d.hidden),
			}, under("layers.0.", d.norms(layerNorm), under("self_attn.", d.latent()), under("transformer_layer.mlp.", d.gated(projection, d.dense)), []spec{
				row("eh_proj.weight", matrix, d.hidden, 2*d.hidden),
				row("enorm.m.weight", layerNorm, d.hidden),
				row("hnorm.m.weight", layerNorm, d.hidden),
			})).asMTP(),
		}
	},
	values: func(m *model) map[string]any { return map[string]any{"zero_experts": m.zeroExperts()} },
}

func (d dims) zeroExperts() int { return d.experts / 2 }
