"""MiniMax-M2, MiMo-V2-Flash, Step 3.5 and LongCat-Flash: block scales, names of their own."""

from dialects import BLOCK_F32, BLOCK_STACKED
from families import deepseek
from families.family import Family, Variant
from mapping import GLU, Rule, absorbed, plus_one, rename, switch
from sources import Source
from weights import F32

MINIMAX = {
    "architectures": ["MiniMaxM2ForCausalLM"], "head_dim": 64, "hidden_act": "silu", "hidden_size": 256, "intermediate_size": 128,
    "max_position_embeddings": 4096, "model_type": "minimax_m2", "num_attention_heads": 4, "num_experts_per_tok": 2,
    "num_hidden_layers": 2, "num_key_value_heads": 2, "num_local_experts": 4, "qk_norm_type": "per_layer", "rms_norm_eps": 1e-6,
    "rope_theta": 5000000, "rotary_dim": 32, "scoring_func": "sigmoid", "shared_intermediate_size": 0, "tie_word_embeddings": False,
    "use_qk_norm": True, "use_routing_bias": True, "vocab_size": 512,
}
MIMO = {
    "add_full_attention_sink_bias": False, "add_swa_attention_sink_bias": True, "architectures": ["MiMoV2FlashForCausalLM"],
    "attention_bias": False, "head_dim": 192, "hidden_act": "silu", "hidden_size": 256, "hybrid_layer_pattern": [0, 1, 1],
    "intermediate_size": 384, "layernorm_epsilon": 1e-5, "max_position_embeddings": 4096, "model_type": "mimo_v2_flash",
    "moe_intermediate_size": 128, "moe_layer_freq": [0, 1, 1], "n_group": 1, "n_routed_experts": 4, "n_shared_experts": None,
    "norm_topk_prob": True, "num_attention_heads": 4, "num_experts_per_tok": 2, "num_hidden_layers": 3, "num_key_value_heads": 2,
    "partial_rotary_factor": 0.334, "rope_theta": 5000000, "routed_scaling_factor": None, "scoring_func": "sigmoid", "sliding_window_size": 128,
    "swa_head_dim": 192, "swa_num_attention_heads": 4, "swa_num_key_value_heads": 4, "swa_rope_theta": 10000, "swa_v_head_dim": 128,
    "tie_word_embeddings": False, "topk_group": 1, "topk_method": "noaux_tc", "torch_dtype": "bfloat16", "v_head_dim": 128, "vocab_size": 512,
}
STEP = {
    "architectures": ["Step3p5ForCausalLM"], "attention_other_setting": {"attention_type": "sliding_attention", "head_dim": 64,
                                                                          "num_attention_groups": 2, "num_attention_heads": 4},
    "head_dim": 64, "hidden_size": 256, "intermediate_size": 384, "layer_types": ["full_attention", "sliding_attention", "full_attention"],
    "max_position_embeddings": 4096, "model_type": "step3p5", "moe_intermediate_size": 128, "moe_layers_enum": "1,2", "moe_num_experts": 4,
    "moe_top_k": 2, "num_attention_groups": 2, "num_attention_heads": 4, "num_hidden_layers": 3, "num_nextn_predict_layers": 1,
    "partial_rotary_factors": [0.5, 1.0, 0.5], "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "share_expert_dim": 128, "sliding_window": 128,
    "tie_word_embeddings": False, "torch_dtype": "bfloat16", "use_head_wise_attn_gate": True, "vocab_size": 512,
}
LONGCAT = {
    "architectures": ["LongcatFlashForCausalLM"], "attention_bias": False, "attention_method": "MLA", "expert_ffn_hidden_size": 128,
    "ffn_hidden_size": 384, "hidden_size": 256, "kv_lora_rank": 128, "max_position_embeddings": 4096, "mla_scale_kv_lora": True,
    "mla_scale_q_lora": True, "model_type": "longcat_flash", "moe_topk": 2, "n_routed_experts": 4, "num_attention_heads": 4, "num_layers": 2,
    "q_lora_rank": 64, "qk_nope_head_dim": 64, "qk_rope_head_dim": 32, "rms_norm_eps": 1e-5, "rope_theta": 10000000.0,
    "routed_scaling_factor": 6.0, "tie_word_embeddings": False, "torch_dtype": "bfloat16", "v_head_dim": 64, "vocab_size": 512,
    "zero_expert_num": 2, "zero_expert_type": "identity",
}


def attention(s: Source, prefix: str, heads: int, groups: int, c: dict) -> None:
    for name, number in (("q_proj", heads), ("k_proj", groups), ("v_proj", groups)):
        s.linear(f"{prefix}.{name}", number * c["head_dim"], c["hidden_size"])
    s.linear(f"{prefix}.o_proj", c["hidden_size"], heads * c["head_dim"])


def build_minimax(s: Source, c: dict) -> None:
    s.ends(c)
    hidden, heads, groups = c["hidden_size"], c["num_attention_heads"], c["num_key_value_heads"]
    for prefix in (f"model.layers.{i}" for i in range(c["num_hidden_layers"])):
        s.norms(prefix, hidden, "input_layernorm", "post_attention_layernorm")
        attention(s, f"{prefix}.self_attn", heads, groups, c)
        s.norms(f"{prefix}.self_attn", heads * c["head_dim"], "q_norm")  # over all heads at once
        s.norms(f"{prefix}.self_attn", groups * c["head_dim"], "k_norm")
        s.plain(f"{prefix}.block_sparse_moe.gate.weight", c["num_local_experts"], hidden, dtype=F32)
        s.plain(f"{prefix}.block_sparse_moe.e_score_correction_bias", c["num_local_experts"], dtype=F32)
        for expert in range(c["num_local_experts"]):
            s.mlp(f"{prefix}.block_sparse_moe.experts.{expert}", hidden, c["intermediate_size"], gate="w1", up="w3", down="w2")


def mimo_layer(s: Source, prefix: str, c: dict, sliding: bool, moe: bool) -> None:
    """Key and value rows are whole blocks here; how the release divides them otherwise is not
    known, so metalcast needs a flag."""
    hidden, heads, groups = c["hidden_size"], c["num_attention_heads"], c["swa_num_key_value_heads" if sliding else "num_key_value_heads"]
    s.norms(prefix, hidden, "input_layernorm", "post_attention_layernorm")
    for name, rows in (("q_proj", heads * c["head_dim"]), ("k_proj", groups * c["head_dim"]), ("v_proj", groups * c["v_head_dim"])):
        s.linear(f"{prefix}.self_attn.{name}", rows, hidden)
    s.plain(f"{prefix}.self_attn.o_proj.weight", hidden, heads * c["v_head_dim"])
    if sliding:
        s.plain(f"{prefix}.self_attn.attention_sink_bias", heads, dtype=F32)
    if not moe:
        s.mlp(f"{prefix}.mlp", hidden, c["intermediate_size"])
        return
    s.plain(f"{prefix}.mlp.gate.weight", c["n_routed_experts"], hidden, dtype=F32)
    s.plain(f"{prefix}.mlp.gate.e_score_correction_bias", c["n_routed_experts"], dtype=F32)
    for expert in range(c["n_routed_experts"]):
        s.mlp(f"{prefix}.mlp.experts.{expert}", hidden, c["moe_intermediate_size"])


def build_mimo(s: Source, c: dict) -> None:
    s.ends(c)
    for index in range(c["num_hidden_layers"]):
        mimo_layer(s, f"model.layers.{index}", c, c["hybrid_layer_pattern"][index] == 1, c["moe_layer_freq"][index] == 1)
    mimo_layer(s, "model.mtp.layers.0", c, sliding=True, moe=False)
    s.plain("model.mtp.layers.0.eh_proj.weight", c["hidden_size"], 2 * c["hidden_size"])


def step_layer(s: Source, prefix: str, c: dict, moe: bool) -> None:
    """Only the routed experts are FP8."""
    hidden, dim, number, inner = c["hidden_size"], c["head_dim"], c["moe_num_experts"], c["moe_intermediate_size"]
    heads, groups = c["num_attention_heads"], c["num_attention_groups"]
    s.norms(prefix, hidden, "input_layernorm", "post_attention_layernorm", mean=0.0)
    s.norms(f"{prefix}.self_attn", dim, "q_norm", "k_norm", mean=0.0)
    for name, shape in (("q_proj", (heads * dim, hidden)), ("k_proj", (groups * dim, hidden)), ("v_proj", (groups * dim, hidden)),
                        ("o_proj", (hidden, heads * dim)), ("g_proj", (heads, hidden))):
        s.plain(f"{prefix}.self_attn.{name}.weight", *shape)
    dense, width = (f"{prefix}.share_expert", c["share_expert_dim"]) if moe else (f"{prefix}.mlp", c["intermediate_size"])
    for name, shape in (("gate_proj", (width, hidden)), ("up_proj", (width, hidden)), ("down_proj", (hidden, width))):
        s.plain(f"{dense}.{name}.weight", *shape)
    if moe:
        s.plain(f"{prefix}.moe.gate.weight", number, hidden, dtype=F32)
        s.plain(f"{prefix}.moe.router_bias", number, dtype=F32)
        s.parameter(f"{prefix}.moe.gate_proj.weight", number, inner, hidden)
        s.parameter(f"{prefix}.moe.up_proj.weight", number, inner, hidden)
        s.parameter(f"{prefix}.moe.down_proj.weight", number, hidden, inner)


def build_step(s: Source, c: dict) -> None:
    s.ends(c, mean=0.0)
    for index in range(c["num_hidden_layers"]):
        step_layer(s, f"model.layers.{index}", c, moe=str(index) in c["moe_layers_enum"].split(","))
    last = f"model.layers.{c['num_hidden_layers']}"
    step_layer(s, last, c, moe=False)
    s.norms(last, c["hidden_size"], "enorm", "hnorm", mean=0.0)
    s.plain(f"{last}.eh_proj.weight", c["hidden_size"], 2 * c["hidden_size"])


def build_longcat(s: Source, c: dict) -> None:
    """Two attentions and two dense MLPs per layer, and experts that do nothing."""
    s.ends(c)
    hidden, number = c["hidden_size"], c["n_routed_experts"]
    for prefix in (f"model.layers.{i}" for i in range(c["num_layers"])):
        for half in (0, 1):
            s.norms(prefix, hidden, f"input_layernorm.{half}", f"post_attention_layernorm.{half}")
            deepseek.latent_attention(s, f"{prefix}.self_attn.{half}", c)
            s.mlp(f"{prefix}.mlps.{half}", hidden, c["ffn_hidden_size"])
        s.plain(f"{prefix}.mlp.router.classifier.weight", number + c["zero_expert_num"], hidden, dtype=F32)
        s.plain(f"{prefix}.mlp.router.e_score_correction_bias", number + c["zero_expert_num"], dtype=F32)
        for expert in range(number):
            s.mlp(f"{prefix}.mlp.experts.{expert}", hidden, c["expert_ffn_hidden_size"])
    s.linear("model.mtp.layers.0.self_attn.q_a_proj", c["q_lora_rank"], hidden)
    s.norms("model.mtp", hidden, "norm", "layers.0.enorm.m", "layers.0.hnorm.m")


def rules_minimax(c: dict) -> list[Rule]:
    return [switch({"w1": "gate_proj", "w2": "down_proj", "w3": "up_proj"})]


def rules_mimo(c: dict) -> list[Rule]:
    return [switch(GLU)]


def rules_step(c: dict) -> list[Rule]:
    return [rename(r"\.moe\.(gate|up|down)_proj\.", r".mlp.switch_mlp.\1_proj."), rename(r"\.moe\.gate\.", ".mlp.gate.gate."),
            rename(r"\.moe\.router_bias", ".mlp.gate.router_bias"), rename(r"\.share_expert\.", ".mlp.share_expert."),
            plus_one(r"norm\.weight$")]


def rules_longcat(c: dict) -> list[Rule]:
    return [switch(GLU), absorbed(c["num_attention_heads"], c["qk_nope_head_dim"], c["v_head_dim"])]


FAMILIES = [
    Family("minimax", MINIMAX, build_minimax, rules_minimax, mlx=True, variants=(
        Variant(BLOCK_F32, note="model_type minimax_m2"),
        Variant(BLOCK_F32, {"model_type": "minimax", "intermediate_size": 136, "hidden_size": 200}, "model_type minimax, partial blocks"))),
    Family("mimo_v2_flash", MIMO, build_mimo, rules_mimo, dropped=r"^model\.mtp\.", variants=(
        Variant(BLOCK_F32, note="with --trust-scales", options=("--trust-scales",)),)),
    Family("step3p5", STEP, build_step, rules_step, dropped=r"^model\.layers\.3\.", variants=(
        Variant(BLOCK_STACKED), Variant(BLOCK_STACKED, {"moe_intermediate_size": 136, "hidden_size": 200}, "partial blocks"))),
    Family("longcat_flash", LONGCAT, build_longcat, rules_longcat, dropped=r"^model\.mtp\.", variants=(
        Variant(BLOCK_F32, note="160 rows over 2 scales"),)),
]
