package synth

var qwen3 = []*family{
	{
		name: "qwen3_moe", release: "Qwen/Qwen3-30B-A3B-FP8", dialect: blocksBF16, rejects: rejectsScales,
		full:    dims{layers: 48, experts: 128, topK: 8, hidden: 2048, intermediate: 768, dense: 6144, vocab: 151936, heads: 32, kvHeads: 4, headDim: 128},
		reduced: dims{layers: 2, experts: 4, topK: 2, hidden: 256, intermediate: 128, dense: 384, vocab: 512, heads: 4, kvHeads: 2, headDim: 64},
		parts: func(_ Options, d dims) []part {
			return []part{d.frame("", "model.", layerNorm), span("model.layers.@.", 0, d.layers, d.qwen3Layer(),
				under("mlp.", []spec{row("gate.weight", matrix, d.experts, d.hidden)}, d.gatedExperts()))}
		},
	},
	{
		name: "qwen3", release: "Qwen/Qwen3-8B-FP8", dialect: blocksBF16, rejects: rejectsScales,
		full:    dims{layers: 36, hidden: 4096, intermediate: 12288, vocab: 151936, heads: 32, kvHeads: 8, headDim: 128},
		reduced: dims{layers: 2, hidden: 256, intermediate: 384, vocab: 512, heads: 4, kvHeads: 2, headDim: 64},
		parts: func(_ Options, d dims) []part {
			return []part{d.frame("", "model.", layerNorm), span("model.layers.@.", 0, d.layers, d.qwen3Layer(), under("mlp.", d.gated(projection, d.intermediate)))}
		},
	},
	{
		name: "qwen3_next", release: "Qwen/Qwen3-Next-80B-A3B-Instruct-FP8", dialect: blocksBF16, mtp: always, rejects: rejectsScales,
		full: dims{
			layers: 48, experts: 512, topK: 10, hidden: 2048, intermediate: 512, dense: 5120, vocab: 151936,
			heads: 16, kvHeads: 2, headDim: 256, linKeyHeads: 16, linValueHeads: 32, linKeyDim: 128, linValueDim: 128, conv: 4,
		},
		reduced: dims{
			layers: 4, experts: 4, topK: 2, hidden: 256, intermediate: 128, dense: 384, vocab: 512,
			heads: 4, kvHeads: 2, headDim: 64, linKeyHeads: 2, linValueHeads: 4, linKeyDim: 64, linValueDim: 64, conv: 4,
		},
		parts: func(_ Options, d dims) []part {
			key, value := d.linKeyHeads*d.linKeyDim, d.linValueHeads*d.linValueDim
			net := d.deltaNet([]spec{
				row("in_proj_qkvz.weight", projection, 2*(key+value), d.hidden),
				row("in_proj_ba.weight", matrix, 2*d.linValueHeads, d.hidden),
				row("A_log", shortDecay, d.linValueHeads),
				row("norm.weight", layerNorm, d.linValueDim),
			})
			return append(d.hybrid("model.", net, d.qwenMLP(false)), d.frame("", "model.", norm), d.qwenMTP(d.qwenMLP(false)))
		},
	},
	{
		name: "qwen3_vl_moe", release: "Qwen/Qwen3-VL-30B-A3B-Instruct-FP8", dialect: blocksBF16, stacked: true, vision: always, images: qwenImages,
		full:    dims{layers: 48, experts: 128, topK: 8, hidden: 2048, intermediate: 768, dense: 6144, vocab: 151936, heads: 32, kvHeads: 4, headDim: 128},
		reduced: dims{layers: 2, experts: 4, topK: 2, hidden: 256, intermediate: 128, dense: 384, vocab: 512, heads: 4, kvHeads: 2, headDim: 64},
		parts: func(_ Options, d dims) []part {
			return []part{d.frame("", "model.language_model.", layerNorm), span("model.language_model.layers.@.", 0, d.layers, d.qwen3Layer(), under("mlp.", []spec{
				row("gate.weight", matrix, d.experts, d.hidden),
				// transposed, unlike those of Qwen3.5
				row("experts.gate_up_proj", stack, d.experts, d.hidden, 2*d.intermediate),
				row("experts.down_proj", stack, d.experts, d.intermediate, d.hidden),
			})), qwenTower(d, deepBlocks)}
		},
		values: func(m *model) map[string]any {
			v := m.visionConfig()
			v["deepstack_visual_indexes"] = []int{0}
			return map[string]any{"vision": v, "mrope_section": ropeSection(m.headDim / 2)}
		},
		rejects: rejectsScales,
	},
}

// deepBlocks is the number of blocks in Qwen3-VL's tower that have a merger of their own.
const deepBlocks = 1

func (d dims) qwen3Layer() []spec {
	return append(d.norms(layerNorm), under("self_attn.", d.grouped(projection), d.normedQK(layerNorm))...)
}
