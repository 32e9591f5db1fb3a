package synth

// nemotron has one mixer in each layer: Mamba (M), experts without a gate (E) or attention (*). As
// ModelOpt publishes it, attention and the Mamba layer before it stay in BF16.
var nemotron = &family{
	name: "nemotron_h", release: "nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-FP8", dialect: wholeInput, rejects: rejectsScales,
	full: dims{
		layers: 52, hidden: 2688, experts: 128, topK: 6, intermediate: 1856, shared: 1, vocab: 131072, heads: 32, kvHeads: 2, headDim: 128,
		mambaHeads: 64, mambaDim: 64, state: 128, groups: 8, conv: 4,
	},
	reduced: dims{
		layers: 7, hidden: 256, experts: 4, topK: 2, intermediate: 128, shared: 1, vocab: 512, heads: 4, kvHeads: 2, headDim: 64,
		mambaHeads: 8, mambaDim: 32, state: 32, groups: 2, conv: 4,
	},
	parts: nemotronParts,
	values: func(m *model) map[string]any {
		return map[string]any{"pattern": m.pattern(), "shared_intermediate": m.sharedMixer()}
	},
	sides: map[string]string{"hf_quant_config.json": "nemotron_h.hf_quant_config.json"},
}

const releasePattern = "MEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEMEM*EMEMEMEME"

// pattern lists the layers' mixers in the order of the release.
func (d dims) pattern() string {
	p := make([]byte, d.layers)
	for l := range p {
		p[l] = releasePattern[l%len(releasePattern)]
	}
	return string(p)
}

// sharedMixer is the shared experts' intermediate size.
func (d dims) sharedMixer() int { return 2 * d.intermediate }

func nemotronParts(_ Options, d dims) []part {
	pattern := d.pattern()
	var layers [4][]int // by mixer: Mamba, Mamba before attention, experts, attention
	for l := range d.layers {
		at := map[byte]int{'M': 0, 'E': 2, '*': 3}[pattern[l]]
		if at == 0 && l+1 < d.layers && pattern[l+1] == '*' {
			at = 1
		}
		layers[at] = append(layers[at], l)
	}
	ungated := func(prefix string, k kind, i int) []spec {
		return under(prefix, []spec{row("up_proj.weight", k, i, d.hidden), row("down_proj.weight", k, d.hidden, i)})
	}
	experts := under("", ungated("shared_experts.", projection, d.sharedMixer()), each(d.experts, ungated("experts.#.", expert, d.intermediate)), []spec{
		row("gate.weight", matrix, d.experts, d.hidden),
		row("gate.e_score_correction_bias", correction, d.experts),
	})
	attention := append(d.grouped(matrix), row("k_proj.k_scale", cacheScale), row("v_proj.v_scale", cacheScale))
	normed := []spec{row("norm.weight", layerNorm, d.hidden)}
	mixer := func(layers []int, rows []spec) part {
		return in("backbone.layers.@.", layers, normed, under("mixer.", rows))
	}
	return []part{
		once("", []spec{
			row("backbone.embeddings.weight", matrix, d.vocab, d.hidden),
			row("backbone.norm_f.weight", layerNorm, d.hidden),
			row("lm_head.weight", matrix, d.vocab, d.hidden),
		}),
		mixer(layers[0], d.mamba(projection)), mixer(layers[1], d.mamba(matrix)), mixer(layers[2], experts), mixer(layers[3], attention),
	}
}

func (d dims) mamba(k kind) []spec {
	inner := d.mambaHeads * d.mambaDim
	channels := inner + 2*d.groups*d.state
	return []spec{
		row("in_proj.weight", k, inner+channels+d.mambaHeads, d.hidden),
		row("out_proj.weight", k, d.hidden, inner),
		row("conv1d.weight", kernel, channels, 1, d.conv),
		row("conv1d.bias", bias, channels),
		row("A_log", decay, d.mambaHeads),
		row("D", gatedNorm, d.mambaHeads),
		row("dt_bias", timeStep, d.mambaHeads),
		row("norm.weight", layerNorm, inner),
	}
}
