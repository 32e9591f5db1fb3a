package synth

import "strings"

// Relatives of DeepSeek-V3: leading dense layers, then routed experts beside shared ones, and a
// prediction head in the layers after the last.
var deepSeek = []*family{
	{
		name: "deepseek_v3", release: "deepseek-ai/DeepSeek-V3", dialect: blocksF32, mtp: always, parts: routed(dims.latent), rejects: rejectsMTP,
		full: dims{
			layers: 61, firstDense: 3, hidden: 7168, dense: 18432, experts: 256, topK: 8, intermediate: 2048, shared: 1, vocab: 129280,
			heads: 128, kvHeads: 128, qLora: 1536, kvLora: 512, nope: 128, rope: 64, valueDim: 128,
		},
		reduced: tinyLatent,
	},
	{
		name: "kimi_k2", release: "moonshotai/Kimi-K2-Instruct", dialect: blocksF32, parts: routed(dims.latent), rejects: rejectsNothing,
		full: dims{
			layers: 61, firstDense: 1, hidden: 7168, dense: 18432, experts: 384, topK: 8, intermediate: 2048, shared: 1, vocab: 163840,
			heads: 64, kvHeads: 64, qLora: 1536, kvLora: 512, nope: 128, rope: 64, valueDim: 128,
		},
		reduced: tinyLatent,
	},
	{
		name: "deepseek_v32", release: "deepseek-ai/DeepSeek-V3.2", dialect: blocksPow2, mtp: always, parts: routed(dims.sparse), rejects: rejectsNothing,
		full: dims{
			layers: 61, firstDense: 3, hidden: 7168, dense: 18432, experts: 256, topK: 8, intermediate: 2048, shared: 1, vocab: 129280,
			heads: 128, kvHeads: 128, qLora: 1536, kvLora: 512, nope: 128, rope: 64, valueDim: 128, indexHeads: 64, indexDim: 128,
		},
		reduced: tinySparse,
	},
	{
		name: "glm_moe_dsa", release: "zai-org/GLM-5-FP8", dialect: blocksF32, mtp: always, parts: routed(dims.sparse), rejects: rejectsNothing,
		full: dims{
			layers: 78, firstDense: 3, hidden: 6144, dense: 12288, experts: 256, topK: 8, intermediate: 2048, shared: 1, vocab: 154880,
			heads: 64, kvHeads: 64, qLora: 2048, kvLora: 512, nope: 192, rope: 64, valueDim: 256, indexHeads: 32, indexDim: 128,
		},
		reduced: tinyUneven,
		values:  glmUnquantized,
	},
	{
		name: "glm4_moe_lite", release: "zai-org/GLM-4.7-Flash in FP8-dynamic", dialect: channelB16, mtp: always, parts: routed(dims.latent), rejects: rejectsScales,
		full: dims{
			layers: 47, firstDense: 1, hidden: 2048, dense: 10240, experts: 64, topK: 4, intermediate: 1536, shared: 1, vocab: 154880,
			heads: 20, kvHeads: 20, qLora: 768, kvLora: 512, nope: 192, rope: 64, valueDim: 256,
		},
		reduced: tinyUneven,
	},
}

var (
	tinyLatent = dims{
		layers: 3, firstDense: 1, hidden: 256, dense: 384, experts: 4, topK: 2, intermediate: 128, shared: 1, vocab: 512,
		heads: 4, kvHeads: 4, qLora: 64, kvLora: 128, nope: 64, rope: 32, valueDim: 64,
	}
	tinySparse = func() dims {
		d := tinyLatent
		d.indexHeads, d.indexDim = 2, 64
		return d
	}()
	// As in GLM's models a head of kv_b_proj is not a whole number of scale blocks.
	tinyUneven = func() dims {
		d := tinySparse
		d.nope, d.valueDim = 96, 128
		return d
	}()
)

// sparse is latent attention with an indexer that selects what is attended to.
func (d dims) sparse() []spec {
	return append(d.latent(),
		row("indexer.wq_b.weight", projection, d.indexHeads*d.indexDim, d.qLora),
		row("indexer.wk.weight", projection, d.indexDim, d.hidden),
		row("indexer.k_norm.weight", gatedNorm, d.indexDim),
		row("indexer.k_norm.bias", correction, d.indexDim),
		row("indexer.weights_proj.weight", matrix, d.indexHeads, d.hidden))
}

// glmUnquantized includes a module name that no tensor has, as the release does.
func glmUnquantized(m *model) map[string]any {
	list := m.unquantized()
	for i := range list {
		list[i] = strings.Replace(list[i], "indexer.weights_proj", "indexers_proj", 1)
	}
	return map[string]any{"glm_unquantized": list}
}

// routed returns the parts of these models, whatever their attention.
func routed(attention func(dims) []spec) func(Options, dims) []part {
	return func(o Options, d dims) []part {
		base := append(d.norms(layerNorm), under("self_attn.", attention(d))...)
		experts := under("mlp.", d.router("gate.e_score_correction_bias"), d.gatedExperts())
		parts := []part{
			d.frame("", "model.", layerNorm),
			span("model.layers.@.", 0, d.firstDense, base, under("mlp.", d.gated(projection, d.dense))),
			span("model.layers.@.", d.firstDense, d.layers, base, experts),
		}
		if o.MTP {
			parts = append(parts, span("model.layers.@.", d.layers, d.layers+1, base, experts, d.predictor()).asMTP())
		}
		return parts
	}
}

// router selects experts; shared ones always run.
func (d dims) router(correctionName string) []spec {
	return append(under("shared_experts.", d.gated(projection, d.shared*d.intermediate)),
		row("gate.weight", matrix, d.experts, d.hidden),
		row(correctionName, correction, d.experts))
}

// predictor returns what a prediction layer has in addition to a decoder layer.
func (d dims) predictor() []spec {
	return []spec{
		row("embed_tokens.weight", matrix, d.vocab, d.hidden),
		row("enorm.weight", layerNorm, d.hidden),
		row("hnorm.weight", layerNorm, d.hidden),
		row("eh_proj.weight", matrix, d.hidden, 2*d.hidden),
		row("shared_head.norm.weight", layerNorm, d.hidden),
		row("shared_head.head.weight", matrix, d.vocab, d.hidden),
	}
}
