package synth

import (
	"slices"
	"strconv"
)

// spec is a row of the tables below. A '#' in the name stands for an expert's index, and the row for as many tensors.
type spec struct {
	name    string
	kind    kind
	experts int
	shape   []int64
}

func (s spec) times() int { return max(s.experts, 1) }

func row(name string, k kind, shape ...int) spec {
	s := spec{name: name, kind: k, shape: make([]int64, len(shape))}
	for i, n := range shape {
		s.shape[i] = int64(n)
	}
	return s
}

func each(experts int, s spec) spec {
	s.experts = experts
	return s
}

// frame is what stands around the layers.
func (o Options) frame(d dims) []spec {
	return []spec{
		row("lm_head.weight", matrix, d.vocab, d.hidden),
		row(o.prefix()+"embed_tokens.weight", matrix, d.vocab, d.hidden),
		row(o.prefix()+"norm.weight", norm, d.hidden),
	}
}

// layer is one decoder layer, with full or with linear attention.
func (o Options) layer(d dims, full bool) []spec {
	specs := []spec{
		row("input_layernorm.weight", norm, d.hidden),
		row("post_attention_layernorm.weight", norm, d.hidden),
	}
	if full {
		specs = append(specs, attention(d)...)
	} else {
		specs = append(specs, deltaNet(d)...)
	}
	return append(specs, o.mlp(d)...)
}

// attention is gated: q_proj gives queries and their gates.
func attention(d dims) []spec {
	return []spec{
		row("self_attn.q_proj.weight", projection, 2*d.heads*d.headDim, d.hidden),
		row("self_attn.k_proj.weight", projection, d.kvHeads*d.headDim, d.hidden),
		row("self_attn.v_proj.weight", projection, d.kvHeads*d.headDim, d.hidden),
		row("self_attn.o_proj.weight", projection, d.hidden, d.heads*d.headDim),
		row("self_attn.q_norm.weight", norm, d.headDim),
		row("self_attn.k_norm.weight", norm, d.headDim),
	}
}

// deltaNet is the linear attention.
func deltaNet(d dims) []spec {
	key, value := d.linKeyHeads*d.linKeyDim, d.linValueHeads*d.linValueDim
	return []spec{
		row("linear_attn.in_proj_qkv.weight", projection, 2*key+value, d.hidden),
		row("linear_attn.in_proj_z.weight", projection, value, d.hidden),
		row("linear_attn.out_proj.weight", projection, d.hidden, value),
		row("linear_attn.in_proj_a.weight", matrix, d.linValueHeads, d.hidden),
		row("linear_attn.in_proj_b.weight", matrix, d.linValueHeads, d.hidden),
		row("linear_attn.conv1d.weight", kernel, 2*key+value, 1, d.conv),
		row("linear_attn.A_log", decay, d.linValueHeads),
		row("linear_attn.dt_bias", timeStep, d.linValueHeads),
		row("linear_attn.norm.weight", gatedNorm, d.linValueDim),
	}
}

func (o Options) mlp(d dims) []spec {
	h, i := d.hidden, d.intermediate
	gated := func(prefix string, k kind) []spec {
		return []spec{
			row(prefix+"gate_proj.weight", k, i, h),
			row(prefix+"up_proj.weight", k, i, h),
			row(prefix+"down_proj.weight", k, h, i),
		}
	}
	if d.experts == 0 {
		return gated("mlp.", projection)
	}
	specs := append(gated("mlp.shared_expert.", projection),
		row("mlp.shared_expert_gate.weight", matrix, 1, h),
		row("mlp.gate.weight", matrix, d.experts, h))
	if o.Stacked {
		return append(specs,
			row("mlp.experts.gate_up_proj", stack, d.experts, 2*i, h),
			row("mlp.experts.down_proj", stack, d.experts, h, i))
	}
	for _, s := range gated("mlp.experts.#.", expert) {
		specs = append(specs, each(d.experts, s))
	}
	return specs
}

// mtp is the multi-token prediction head: one layer with full attention behind a projection of embedding and hidden state.
func (o Options) mtp(d dims) []spec {
	specs := []spec{
		row("mtp.fc.weight", matrix, d.hidden, 2*d.hidden),
		row("mtp.pre_fc_norm_embedding.weight", norm, d.hidden),
		row("mtp.pre_fc_norm_hidden.weight", norm, d.hidden),
		row("mtp.norm.weight", norm, d.hidden),
	}
	for _, s := range o.layer(d, true) {
		s.name = "mtp.layers.0." + s.name
		specs = append(specs, s)
	}
	return specs
}

// tower is the vision tower. Its merger gives vectors of the language model's hidden size.
func tower(d dims) []spec {
	v := vision
	merged := v.hidden * v.merge * v.merge
	linear := func(name string, out, in int) []spec {
		return []spec{row(name+".weight", matrix, out, in), row(name+".bias", bias, out)}
	}
	normed := func(name string) []spec {
		return []spec{row(name+".weight", layerNorm, v.hidden), row(name+".bias", bias, v.hidden)}
	}
	specs := []spec{
		row("model.visual.patch_embed.proj.weight", kernel, v.hidden, v.channels, v.frames, v.patch, v.patch),
		row("model.visual.patch_embed.proj.bias", bias, v.hidden),
		row("model.visual.pos_embed.weight", matrix, v.positions, v.hidden),
	}
	for b := range v.depth {
		block := "model.visual.blocks." + strconv.Itoa(b)
		specs = slices.Concat(specs, normed(block+".norm1"), normed(block+".norm2"),
			linear(block+".attn.qkv", 3*v.hidden, v.hidden), linear(block+".attn.proj", v.hidden, v.hidden),
			linear(block+".mlp.linear_fc1", v.intermediate, v.hidden), linear(block+".mlp.linear_fc2", v.hidden, v.intermediate))
	}
	return slices.Concat(specs, normed("model.visual.merger.norm"),
		linear("model.visual.merger.linear_fc1", merged, merged), linear("model.visual.merger.linear_fc2", d.hidden, merged))
}
