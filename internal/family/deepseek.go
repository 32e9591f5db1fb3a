package family

var routerBias = []string{".e_score_correction_bias"}

// mlaNative is the MLX-native form of models with multi-head latent attention.
var mlaNative = &Native{
	Switch: switchMLP, Names: gateUpDown, MLA: true, PlainArrays: []string{".mlp.gate.weight"}, KeepType: []string{"e_score_correction_bias"},
}

// unconvertedMLA describes mlx-lm's loaders for multi-head latent attention. mlx-vlm goes wrong
// with them: it makes MXFP8 of a matrix that they want to split.
var unconvertedMLA = Unconverted{MLXLM: whileLoads, Reads: []Grid{Blocks}, MLXVLM: SplitsMXFP8}

// SplitsMXFP8 is what mlx-vlm does with multi-head latent attention in FP8.
const SplitsMXFP8 = "fails with KeyError kv_b_proj.biases"

var deepSeek = []*Family{
	{
		Types: []string{"deepseek_v3", "kimi_k2", "joyai_llm_flash"}, Head: headAlways, Experts: expertsOf("n_routed_experts"), Auto: PerExpert,
		// mlx-lm and transformers drop the layer by its number in DeepSeek-V3.
		MTP:     MTP{Layers: true, OnlyAt: 61, Refused: "mlx-lm and transformers drop it only as layer 61"},
		KeepF32: routerBias, Native: mlaNative, Unconverted: Unconverted{MLXLM: whileLoads, Reads: []Grid{Blocks}, Ignores: []string{"weight_scale", "rotary_emb.inv_freq"}, MLXVLM: SplitsMXFP8},
	},
	{Types: []string{"deepseek_v32"}, Head: headAlways, Experts: expertsOf("n_routed_experts"), Auto: PerExpert, MTP: MTP{Layers: true}, KeepF32: routerBias, Unconverted: unconvertedMLA},
	{
		// LongCat has two attentions and two dense MLPs per layer, beside the experts; when saving,
		// transformers counts each half under num_hidden_layers.
		Types: []string{"longcat_flash"}, Head: headAlways, LayersKey: "num_layers", Experts: expertsOf("n_routed_experts"), Auto: PerExpert,
		MTP: MTP{Prefixes: []string{"model.mtp."}}, KeepF32: routerBias, Unconverted: Unconverted{MLXVLM: SplitsMXFP8},
	},
}
