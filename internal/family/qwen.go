package family

// expertsOf is the usual form of experts: NAME.mlp.experts.3.gate_proj.weight, stacked as
// gate_up_proj and down_proj.
func expertsOf(countKeys ...string) *Experts {
	return &Experts{
		Infix: ".mlp.experts.", Gate: "gate_proj", Up: "up_proj", Down: "down_proj",
		GateUpName: "gate_up_proj", DownName: "down_proj", CountKeys: countKeys, Dense: ".mlp.gate_proj.weight",
	}
}

const switchMLP = ".mlp.switch_mlp."

var gateUpDown = []string{"gate_proj", "up_proj", "down_proj"}

// qwenNorms are stored minus one in Hugging Face's form.
var qwenNorms = []string{".input_layernorm.weight", ".post_attention_layernorm.weight", "model.norm.weight", ".q_norm.weight", ".k_norm.weight"}

// qwen35Native is the form of both Qwen3.5 families; mlx-lm puts their language model under
// language_model whatever the source's names.
var qwen35Native = &Native{
	Prefixes: []Rename{{"model.language_model.", "language_model.model."}, {"language_model.", "language_model."}, {"", "language_model."}},
	Tower:    []string{"model.visual.", "vision_tower."},
	Switch:   switchMLP, Names: gateUpDown, Norms: qwenNorms, Conv: true,
	EightBits: qwenRouters, KeepType: []string{"A_log"}, Uncounted: []string{".A_log", ".dt_bias"},
}

var qwenRouters = []string{"mlp.gate", "shared_expert_gate"}

// noMTP is for families whose runtimes know no multi-token prediction head.
var noMTP = MTP{Prefixes: []string{"mtp."}, Refused: "mlx-lm and transformers have no place for it"}

// What runtimes do with FP8, in inspect's words.
const (
	roundsAgain = "loads it, but rounds every weight a second time, to MXFP8"
	whileLoads  = "dequantizes blocks of 128x128 while loading, all in memory"
)

var qwen = []*Family{
	{
		Types: []string{"qwen3_5_moe"}, Head: headRefuses, OtherTypes: []string{"qwen3_5_moe_text"}, Experts: expertsOf("num_experts"), Auto: Stacked,
		MTP: MTP{Prefixes: []string{"mtp."}}, Vision: []string{"model.visual."}, KeepF32: []string{".A_log", ".dt_bias"}, Native: qwen35Native,
		Unconverted: Unconverted{MLXVLM: roundsAgain, Flat: true},
	},
	{
		Types: []string{"qwen3_5"}, Head: headRefuses, OtherTypes: []string{"qwen3_5_text"}, Auto: PerExpert,
		MTP: MTP{Prefixes: []string{"mtp."}}, Vision: []string{"model.visual."}, KeepF32: []string{".A_log", ".dt_bias"}, Native: qwen35Native,
		Unconverted: Unconverted{MLXVLM: roundsAgain, Flat: true},
	},
	{
		Types: []string{"qwen3_moe"}, Experts: expertsOf("num_experts"), Auto: PerExpert, MTP: noMTP,
		Native: &Native{Switch: switchMLP, Names: gateUpDown, EightBits: []string{"mlp.gate"}}, Unconverted: Unconverted{MLXVLM: roundsAgain},
	},
	{Types: []string{"qwen3"}, Auto: PerExpert, MTP: noMTP, Native: &Native{}, Unconverted: Unconverted{MLXVLM: roundsAgain}},
	{
		Types: []string{"qwen3_next"}, Experts: expertsOf("num_experts"), Auto: PerExpert,
		MTP: MTP{Prefixes: []string{"mtp."}}, KeepF32: []string{".A_log", ".dt_bias"},
		Native: &Native{
			Switch: switchMLP, Names: gateUpDown, Norms: qwenNorms, Conv: true, EightBits: qwenRouters, Uncounted: []string{".A_log", ".dt_bias"},
		},
		Unconverted: Unconverted{MLXVLM: roundsAgain},
	},
	{
		// Transposed: transformers and both MLX runtimes want [E,H,2I] and [E,I,H], input dimension
		// first.
		Types: []string{"qwen3_vl_moe"}, Head: headUntied, OtherTypes: []string{"qwen3_vl_moe_text"}, Auto: Stacked, MTP: noMTP, Vision: []string{"model.visual."},
		Experts: transposed(expertsOf("num_experts")), Unconverted: Unconverted{MLXVLM: roundsAgain},
	},
}

func transposed(e *Experts) *Experts {
	e.Transposed = true
	return e
}
