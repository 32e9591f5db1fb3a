package synth

import (
	"fmt"
	"slices"
	"strings"
)

// step stacks its experts and scales nothing else. Every fourth layer has full attention, the
// others a sliding one with more heads.
var step = &family{
	name: "step3p5", release: "stepfun-ai/Step-3.5-Flash-FP8", dialect: blocksF32, stacked: true, mtp: always, rejects: rejectsScales,
	full: dims{
		layers: 45, firstDense: 3, hidden: 4096, dense: 11264, experts: 288, topK: 8, intermediate: 1280, vocab: 128896, heads: 64, kvHeads: 8, headDim: 128,
	},
	reduced: dims{
		layers: 3, firstDense: 1, hidden: 256, dense: 384, experts: 4, topK: 2, intermediate: 128, vocab: 512, heads: 4, kvHeads: 2, headDim: 64,
	},
	parts: stepParts,
	values: func(m *model) map[string]any {
		var types, moe []string
		for l := range m.layers + stepMTP {
			types = append(types, []string{"full_attention", "sliding_attention"}[min(l%4, 1)])
		}
		for l := m.firstDense; l < m.layers; l++ {
			moe = append(moe, fmt.Sprint(l))
		}
		return map[string]any{
			"layer_types": types, "moe_layers": strings.Join(moe, ","), "sliding_heads": m.slidingHeads(), "mtp_layers": stepMTP,
			"rotary": times(m.layers+stepMTP, 1), "thetas": times(m.layers+stepMTP, 10000), "limits": times(m.layers+stepMTP, 0),
		}
	},
}

const stepMTP = 3 // layers after the last, without experts

func (d dims) slidingHeads() int { return d.heads * 3 / 2 }

func stepParts(_ Options, d dims) []part {
	experts := under("", under("share_expert.", d.gated(matrix, d.intermediate)), under("moe.", []spec{
		row("gate.weight", matrix, d.experts, d.hidden),
		row("router_bias", correction, d.experts),
		row("gate_proj.weight", stack, d.experts, d.intermediate, d.hidden),
		row("up_proj.weight", stack, d.experts, d.intermediate, d.hidden),
		row("down_proj.weight", stack, d.experts, d.hidden, d.intermediate),
	}))
	dense := under("mlp.", d.gated(matrix, d.dense))
	parts := []part{d.frame("", "model.", norm)}
	for l := range d.layers + stepMTP {
		a := d
		if l%4 != 0 {
			a.heads = d.slidingHeads()
		}
		base := append(d.norms(norm), under("self_attn.", a.grouped(matrix), a.normedQK(norm), []spec{row("g_proj.weight", matrix, a.heads, d.hidden)})...)
		p := in("model.layers.@.", []int{l}, base)
		switch {
		case l >= d.layers:
			p.rows = slices.Concat(p.rows, dense, []spec{
				row("eh_proj.weight", matrix, d.hidden, 2*d.hidden),
				row("enorm.weight", norm, d.hidden),
				row("hnorm.weight", norm, d.hidden),
				row("transformer.shared_head.norm.weight", norm, d.hidden),
				row("transformer.shared_head.output.weight", matrix, d.vocab, d.hidden),
			})
			p = p.asMTP()
		case l < d.firstDense:
			p.rows = append(p.rows, dense...)
		default:
			p.rows = append(p.rows, experts...)
		}
		parts = append(parts, p)
	}
	return parts
}
