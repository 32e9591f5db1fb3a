package synth

import "slices"

// spec is a row of a family's tables. A '#' in the name stands for an expert's index; the row then
// stands for one tensor per expert.
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

// each turns rows into rows of every expert.
func each(experts int, rows []spec) []spec {
	for i := range rows {
		rows[i].experts = experts
	}
	return rows
}

// under prefixes names.
func under(prefix string, tables ...[]spec) []spec {
	rows := slices.Concat(tables...)
	for i := range rows {
		rows[i].name = prefix + rows[i].name
	}
	return rows
}

// linear returns a matrix and its bias.
func linear(name string, out, in int) []spec {
	return []spec{row(name+".weight", matrix, out, in), row(name+".bias", bias, out)}
}

// layerNormed returns a norm and its bias.
func layerNormed(name string, n int) []spec {
	return []spec{row(name+".weight", layerNorm, n), row(name+".bias", bias, n)}
}

// gated returns a gated MLP of intermediate size i.
func (d dims) gated(k kind, i int) []spec {
	return []spec{
		row("gate_proj.weight", k, i, d.hidden),
		row("up_proj.weight", k, i, d.hidden),
		row("down_proj.weight", k, d.hidden, i),
	}
}

// gatedExperts returns experts that are gated MLPs.
func (d dims) gatedExperts() []spec {
	return under("experts.#.", each(d.experts, d.gated(expert, d.intermediate)))
}

// grouped returns attention whose keys and values are shared by groups of queries.
func (d dims) grouped(k kind) []spec {
	n := d.head()
	return []spec{
		row("q_proj.weight", k, d.heads*n, d.hidden),
		row("k_proj.weight", k, d.kvHeads*n, d.hidden),
		row("v_proj.weight", k, d.kvHeads*n, d.hidden),
		row("o_proj.weight", k, d.hidden, d.heads*n),
	}
}

// normedQK returns the norms of queries and keys.
func (d dims) normedQK(k kind) []spec {
	return []spec{row("q_norm.weight", k, d.head()), row("k_norm.weight", k, d.head())}
}

// latent returns multi-head latent attention. The rotated part of the keys makes kv_a_proj_with_mqa
// end in a partial block.
func (d dims) latent() []spec {
	return []spec{
		row("q_a_proj.weight", projection, d.qLora, d.hidden),
		row("q_a_layernorm.weight", layerNorm, d.qLora),
		row("q_b_proj.weight", projection, d.heads*(d.nope+d.rope), d.qLora),
		row("kv_a_proj_with_mqa.weight", projection, d.kvLora+d.rope, d.hidden),
		row("kv_a_layernorm.weight", layerNorm, d.kvLora),
		row("kv_b_proj.weight", projection, d.heads*(d.nope+d.valueDim), d.kvLora),
		row("o_proj.weight", projection, d.hidden, d.heads*d.valueDim),
	}
}

// norms returns the norms of a decoder layer.
func (d dims) norms(k kind) []spec {
	return []spec{row("input_layernorm.weight", k, d.hidden), row("post_attention_layernorm.weight", k, d.hidden)}
}

// frame returns what is outside the layers: the output matrix, under head, and the rest under
// prefix.
func (d dims) frame(head, prefix string, k kind) part {
	return once("", []spec{
		row(head+"lm_head.weight", matrix, d.vocab, d.hidden),
		row(prefix+"embed_tokens.weight", matrix, d.vocab, d.hidden),
		row(prefix+"norm.weight", k, d.hidden),
	})
}
