package family

// mistralTower is what is beside the language model in both of mistral3's namings.
var mistralTower = []string{"vision_tower.", "multi_modal_projector.", "model.vision_tower.", "model.multi_modal_projector."}

var mistral = []*Family{
	{
		Types: []string{"mistral4"}, Head: headRefuses, Wrapper: "mistral3", Experts: expertsOf("n_routed_experts"), Auto: Stacked, LoadsSeparate: true, MTP: noMTP, Vision: mistralTower,
		Native: &Native{
			Prefixes: []Rename{{"model.language_model.", "language_model.model."}, {"language_model.", "language_model."}, {"", "language_model."}},
			Tower:    mistralTower, Switch: switchMLP, Names: gateUpDown, MLA: true,
		},
		Unconverted: Unconverted{
			MLXLM: "dequantizes it while loading, all in memory", Reads: []Grid{Blocks, Broadcasts}, Ignores: []string{"weight_scale", "activation_scale"},
			MLXVLM: roundsAgain,
		},
	},
	{
		Types: []string{"ministral3"}, Wrapper: "mistral3", Auto: PerExpert, MTP: noMTP, Vision: mistralTower,
		Unconverted: Unconverted{
			MLXLM: "loads it without an error and WRONG: it multiplies the codes' bytes by the scale", Reads: []Grid{Broadcasts}, Ignores: []string{"activation_scale"},
			MLXVLM: roundsAgain,
		},
	},
}
