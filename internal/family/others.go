package family

var others = []*Family{
	{
		// Its mixtures of experts are beside a dense MLP. llm-compressor and ModelOpt separate the stacks
		// to quantize them.
		Types: []string{"gemma4", "gemma4_text"}, Head: headRefuses, TiedUnsaid: true, Auto: Stacked, MTP: noMTP,
		Vision: []string{"model.vision_tower.", "model.embed_vision.", "model.audio_tower.", "model.embed_audio."},
		Experts: &Experts{
			Infix: ".experts.", Alias: ".moe.experts.", Gate: "gate_proj", Up: "up_proj", Down: "down_proj", GateUpName: "gate_up_proj", DownName: "down_proj",
			CountKeys: []string{"num_experts"},
		},
		Unconverted: Unconverted{Untried: true},
	},
	{
		Types: []string{"minimax", "minimax_m2"}, Head: headRefuses, Auto: PerExpert, MTP: MTP{Layers: true, Refused: "mlx-lm has no place for it"}, KeepF32: routerBias,
		Experts: &Experts{
			Infix: ".block_sparse_moe.experts.", Gate: "w1", Up: "w3", Down: "w2", CountKeys: []string{"num_local_experts"},
			Dense: ".mlp.gate_proj.weight",
		},
		Native: &Native{
			Switch: ".block_sparse_moe.switch_mlp.", Names: gateUpDown,
			EightBits: []string{"block_sparse_moe.gate"}, KeepType: []string{"e_score_correction_bias"}, Uncounted: []string{".e_score_correction_bias"},
		},
		Unconverted: Unconverted{MLXLM: whileLoads, Reads: []Grid{Blocks}, MLXVLM: roundsAgain},
	},
	{
		// A relu² MLP has no gate.
		Types: []string{"nemotron_h"}, Head: headAlways, Auto: PerExpert, MTP: MTP{Prefixes: []string{"mtp."}},
		KeepF32: []string{".A_log", ".D", ".dt_bias", ".e_score_correction_bias"},
		Experts: &Experts{Infix: ".mixer.experts.", Up: "up_proj", Down: "down_proj", CountKeys: []string{"n_routed_experts"}},
	},
	{
		// Published stacked under names of its own, which every runtime wants unchanged.
		Types: []string{"step3p5"}, Head: headAlways, Auto: PerExpert, MTP: MTP{Layers: true}, KeepF32: []string{".router_bias"},
		Experts: &Experts{
			Infix: ".moe.", Gate: "gate_proj", Up: "up_proj", Down: "down_proj", CountKeys: []string{"moe_num_experts"}, Dense: ".mlp.gate_proj.weight",
		},
	},
	{
		Types: []string{"llama4"}, Head: headAlways, OtherTypes: []string{"llama4_text"}, Auto: Stacked, MTP: noMTP,
		NoTwoSteps: "transformers 5.24, which it asks for the tokenizer, refuses Meta's attn_temperature_tuning, a number",
		Vision:     []string{"vision_model.", "multi_modal_projector."},
		Experts: &Experts{
			Infix: ".feed_forward.experts.", Gate: "gate_proj", Up: "up_proj", Down: "down_proj", GateUpName: "gate_up_proj", DownName: "down_proj",
			Transposed: true, CountKeys: []string{"num_local_experts"}, Dense: ".feed_forward.gate_proj.weight",
		},
		Unconverted: Unconverted{MLXVLM: roundsAgain},
	},
	{
		Types: []string{"bailing_moe", "bailing_moe_linear", "bailing_hybrid", "bailing_moe_v3"}, Experts: expertsOf("num_experts"), Auto: PerExpert,
		MTP: MTP{Layers: true, Refused: "mlx-lm's bailing_moe has no place for it"}, KeepF32: []string{".expert_bias"},
	},
	{Types: []string{"hunyuan"}, Head: headNever, OtherTypes: []string{"hunyuan_v1_moe"}, Experts: expertsOf("num_experts"), Auto: PerExpert, MTP: noMTP, Unconverted: Unconverted{MLXVLM: roundsAgain}},
	{
		Types: []string{"ernie4_5_moe"}, Head: headRefuses, Experts: expertsOf("moe_num_experts"), Auto: PerExpert,
		MTP: MTP{Prefixes: []string{"model.mtp_", "mtp_"}}, KeepF32: routerBias,
	},
	{Types: []string{"dots1"}, Experts: expertsOf("n_routed_experts"), Auto: PerExpert, MTP: noMTP, KeepF32: routerBias, Unconverted: Unconverted{Ignores: []string{"rotary_emb.inv_freq"}, MLXVLM: roundsAgain}},
	{
		Types: []string{"mimo_v2_flash"}, Head: headAlways, OtherTypes: []string{"mimo_v2"}, Experts: expertsOf("n_routed_experts"), Auto: PerExpert,
		MTP: MTP{Prefixes: []string{"model.mtp."}}, KeepF32: []string{".e_score_correction_bias", ".mlp.gate.weight"},
		Unconverted: Unconverted{MLXLM: "loads it, reading the scales of K and V as plain rows of blocks", Reads: []Grid{Blocks}, MLXVLM: roundsAgain},
		DoubtfulScales: &DoubtfulScales{
			Suffixes: []string{"self_attn.k_proj.weight", "self_attn.v_proj.weight", "self_attn.qkv_proj.weight"},
			Why:      "its scale blocks were cut on rows of K and V fused per head, and no published reader agrees on how",
		},
	},
}
