package synth

var qwen35 = []*family{
	{
		name: MoE, release: "Qwen/Qwen3.6-35B-A3B-FP8", dialect: blocksBF16, mtp: onDemand, vision: onDemand,
		full: dims{
			layers: 40, experts: 256, topK: 8, hidden: 2048, intermediate: 512, vocab: 248320,
			heads: 16, kvHeads: 2, headDim: 256, linKeyHeads: 16, linValueHeads: 32, linKeyDim: 128, linValueDim: 128, conv: 4,
		},
		reduced: dims{ // as many layers and experts as the release, but small matrices
			layers: 40, experts: 256, topK: 8, hidden: 64, intermediate: 16, vocab: 512,
			heads: 4, kvHeads: 2, headDim: 32, linKeyHeads: 2, linValueHeads: 4, linKeyDim: 16, linValueDim: 16, conv: 4,
		},
		parts: qwen35Parts, config: qwen35Config, images: qwenImages, rejects: rejectsExperts,
	},
	{
		name: Dense, release: "Qwen/Qwen3.6-27B-FP8", dialect: blocksBF16, mtp: onDemand, vision: onDemand,
		full: dims{
			layers: 64, hidden: 5120, intermediate: 17408, vocab: 248320,
			heads: 24, kvHeads: 4, headDim: 256, linKeyHeads: 16, linValueHeads: 48, linKeyDim: 128, linValueDim: 128, conv: 4,
		},
		reduced: dims{
			layers: 64, hidden: 64, intermediate: 192, vocab: 512,
			heads: 4, kvHeads: 2, headDim: 32, linKeyHeads: 2, linValueHeads: 4, linKeyDim: 16, linValueDim: 16, conv: 4,
		},
		parts: qwen35Parts, config: qwen35Config, images: qwenImages, rejects: rejectsScales,
	},
}

// fullAttentionEvery is the distance of layers with full attention: layers 3, 7, 11 and so on.
const fullAttentionEvery = 4

func isFull(layer int) bool { return (layer+1)%fullAttentionEvery == 0 }

// prefix returns what the language model's names begin with.
func (o Options) prefix() string {
	if o.Flat {
		return "model."
	}
	return "model.language_model."
}

func qwen35Parts(o Options, d dims) []part {
	net := d.deltaNet([]spec{
		row("in_proj_qkv.weight", projection, 2*d.linKeyHeads*d.linKeyDim+d.linValueHeads*d.linValueDim, d.hidden),
		row("in_proj_z.weight", projection, d.linValueHeads*d.linValueDim, d.hidden),
		row("in_proj_a.weight", matrix, d.linValueHeads, d.hidden),
		row("in_proj_b.weight", matrix, d.linValueHeads, d.hidden),
		row("A_log", decay, d.linValueHeads),
		row("norm.weight", gatedNorm, d.linValueDim),
	})
	parts := append(d.hybrid(o.prefix(), net, d.qwenMLP(o.Stacked)), d.frame("", o.prefix(), norm))
	if o.MTP {
		parts = append(parts, d.qwenMTP(d.qwenMLP(o.Stacked)))
	}
	if o.Vision {
		parts = append(parts, qwenTower(d, 0))
	}
	return parts
}

// hybrid returns the layers of Qwen3-Next and its successors: full attention in every fourth,
// linear attention in the others.
func (d dims) hybrid(prefix string, net, mlp []spec) []part {
	var full, others []int
	for l := range d.layers {
		if isFull(l) {
			full = append(full, l)
		} else {
			others = append(others, l)
		}
	}
	return []part{
		in(prefix+"layers.@.", full, d.norms(norm), d.gatedAttention(), mlp),
		in(prefix+"layers.@.", others, d.norms(norm), net, mlp),
	}
}

// gatedAttention has a q_proj that produces queries and their gates.
func (d dims) gatedAttention() []spec {
	rows := under("self_attn.", d.grouped(projection), d.normedQK(norm))
	rows[0].shape[0] *= 2
	return rows
}

// deltaNet is the linear attention; rows are the ones in which Qwen3-Next and Qwen3.5 differ.
func (d dims) deltaNet(rows []spec) []spec {
	key, value := d.linKeyHeads*d.linKeyDim, d.linValueHeads*d.linValueDim
	return under("linear_attn.", rows, []spec{
		row("out_proj.weight", projection, d.hidden, value),
		row("conv1d.weight", kernel, 2*key+value, 1, d.conv),
		row("dt_bias", timeStep, d.linValueHeads),
	})
}

// qwenMLP is dense, or experts beside a shared one of the same size.
func (d dims) qwenMLP(stacked bool) []spec {
	if d.experts == 0 {
		return under("mlp.", d.gated(projection, d.intermediate))
	}
	rows := append(under("shared_expert.", d.gated(projection, d.intermediate)),
		row("shared_expert_gate.weight", matrix, 1, d.hidden),
		row("gate.weight", matrix, d.experts, d.hidden))
	if stacked {
		return under("mlp.", rows, []spec{
			row("experts.gate_up_proj", stack, d.experts, 2*d.intermediate, d.hidden),
			row("experts.down_proj", stack, d.experts, d.hidden, d.intermediate),
		})
	}
	return under("mlp.", rows, d.gatedExperts())
}

// qwenMTP is the multi-token prediction head: one layer with full attention behind a projection of
// embedding and hidden state.
func (d dims) qwenMTP(mlp []spec) part {
	return once("mtp.", []spec{
		row("fc.weight", matrix, d.hidden, 2*d.hidden),
		row("pre_fc_norm_embedding.weight", norm, d.hidden),
		row("pre_fc_norm_hidden.weight", norm, d.hidden),
		row("norm.weight", norm, d.hidden),
	}, under("layers.0.", d.norms(norm), d.gatedAttention(), mlp)).asMTP()
}
