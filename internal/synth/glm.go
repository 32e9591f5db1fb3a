package synth

// Relatives of GLM-4.5: like DeepSeek-V3, with grouped attention.
var glm = []*family{
	{
		name: "glm4_moe", release: "zai-org/GLM-4.6-FP8", dialect: channelF32, mtp: always, parts: routed(dims.biased), rejects: rejectsScales,
		full: dims{
			layers: 92, firstDense: 3, hidden: 5120, dense: 12288, experts: 160, topK: 8, intermediate: 1536, shared: 1, vocab: 151552,
			heads: 96, kvHeads: 8, headDim: 128,
		},
		reduced: tinyGrouped,
	},
	{
		name: "solar_open", release: "upstage/Solar-Open-100B in FP8-dynamic", dialect: channelB16, parts: routed(grouped), rejects: rejectsScales,
		full: dims{
			layers: 48, hidden: 4096, dense: 10240, experts: 128, topK: 8, intermediate: 1280, shared: 1, vocab: 196608,
			heads: 64, kvHeads: 8, headDim: 128,
		},
		reduced: dims{
			layers: 3, hidden: 256, dense: 384, experts: 4, topK: 2, intermediate: 128, shared: 1, vocab: 512, heads: 4, kvHeads: 2, headDim: 64,
		},
	},
	{
		name: "dots1", release: "rednote-hilab/dots.llm1.inst in FP8-dynamic", dialect: channelB16, parts: routed(dims.normed), rejects: rejectsScales,
		full: dims{
			layers: 62, firstDense: 1, hidden: 4096, dense: 10944, experts: 128, topK: 6, intermediate: 1408, shared: 2, vocab: 152064,
			heads: 32, kvHeads: 32, headDim: 128,
		},
		reduced: dims{
			layers: 3, firstDense: 1, hidden: 256, dense: 384, experts: 4, topK: 2, intermediate: 128, shared: 2, vocab: 512, heads: 4, kvHeads: 4, headDim: 64,
		},
	},
}

var tinyGrouped = dims{
	layers: 3, firstDense: 1, hidden: 256, dense: 384, experts: 4, topK: 2, intermediate: 128, shared: 1, vocab: 512, heads: 4, kvHeads: 2, headDim: 64,
}

func grouped(d dims) []spec { return d.grouped(projection) }

func (d dims) normed() []spec { return append(d.grouped(projection), d.normedQK(layerNorm)...) }

// biased is grouped attention with biases except for the output.
func (d dims) biased() []spec {
	return append(d.normed(),
		row("q_proj.bias", bias, d.heads*d.head()),
		row("k_proj.bias", bias, d.kvHeads*d.head()),
		row("v_proj.bias", bias, d.kvHeads*d.head()))
}
