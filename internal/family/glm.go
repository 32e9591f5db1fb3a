package family

var glm = []*Family{
	{
		Types: []string{"glm4_moe"}, Head: headAlways, Experts: expertsOf("n_routed_experts"), Auto: PerExpert, MTP: MTP{Layers: true}, KeepF32: routerBias,
		Native:      &Native{Switch: switchMLP, Names: gateUpDown, PlainArrays: []string{".mlp.gate.weight"}, KeepType: []string{"e_score_correction_bias"}},
		Unconverted: Unconverted{MLXVLM: roundsAgain},
	},
	{Types: []string{"glm4_moe_lite"}, Head: headAlways, Experts: expertsOf("n_routed_experts"), Auto: PerExpert, MTP: MTP{Layers: true}, KeepF32: routerBias, Unconverted: Unconverted{MLXVLM: SplitsMXFP8}},
	{Types: []string{"glm_moe_dsa"}, Head: headAlways, Experts: expertsOf("n_routed_experts"), Auto: PerExpert, MTP: MTP{Layers: true}, KeepF32: routerBias, Unconverted: unconvertedMLA},
	{Types: []string{"solar_open"}, Head: headAlways, Experts: expertsOf("n_routed_experts"), Auto: PerExpert, MTP: MTP{Layers: true}, KeepF32: routerBias, Unconverted: Unconverted{MLXVLM: roundsAgain}},
}
