"""Families whose FP8 releases have one scale per tensor or per row: Nemotron-H, Llama 4, Ling,
Hunyuan, ERNIE 4.5, dots.llm1."""

from dialects import BLOCK_F32, CT_BLOCK, CT_CHANNEL, CT_CHANNEL_F32, CT_TENSOR, LEGACY, MODELOPT, MODELOPT_BLOCK, MODELOPT_STACK
from families import glm, towers
from families.family import Family, Variant
from mapping import GLU, Rule, conv1d, drop, rename, switch, unstacked
from sources import Source
from weights import F32

NEMOTRON = {
    "architectures": ["NemotronHForCausalLM"], "attention_bias": False, "conv_kernel": 4, "head_dim": 64, "hidden_size": 256,
    "hybrid_override_pattern": "ME*E", "intermediate_size": 384, "layer_norm_epsilon": 1e-5, "mamba_head_dim": 32, "mamba_num_heads": 4,
    "mamba_proj_bias": False, "max_position_embeddings": 4096, "mlp_bias": False, "mlp_hidden_act": "relu2", "model_type": "nemotron_h",
    "moe_intermediate_size": 116, "moe_shared_expert_intermediate_size": 232, "n_group": 1, "n_groups": 2, "n_routed_experts": 4,
    "n_shared_experts": 1, "norm_topk_prob": True, "num_attention_heads": 4, "num_experts_per_tok": 2, "num_hidden_layers": 4,
    "num_key_value_heads": 2, "routed_scaling_factor": 2.5, "ssm_state_size": 16, "tie_word_embeddings": False, "topk_group": 1,
    "torch_dtype": "bfloat16", "use_bias": False, "use_conv_bias": True, "vocab_size": 512,
}
LLAMA = {
    "architectures": ["Llama4ForConditionalGeneration"], "image_token_index": 10, "model_type": "llama4", "tie_word_embeddings": False,
    "text_config": {
        "attention_bias": False, "attention_chunk_size": 128, "head_dim": 64, "hidden_act": "silu", "hidden_size": 256,
        "interleave_moe_layer_step": 2, "intermediate_size": 128, "intermediate_size_mlp": 384, "max_position_embeddings": 4096,
        "model_type": "llama4_text", "moe_layers": [1], "no_rope_layers": [1, 0], "num_attention_heads": 4, "num_experts_per_tok": 1,
        "num_hidden_layers": 2, "num_key_value_heads": 2, "num_local_experts": 4, "rms_norm_eps": 1e-5, "rope_scaling": None,
        "rope_theta": 500000.0, "torch_dtype": "bfloat16", "use_qk_norm": False, "vocab_size": 512},
    "torch_dtype": "bfloat16", "vision_config": towers.LLAMA4,
}
BAILING = {
    "architectures": ["BailingMoeV2ForCausalLM"], "first_k_dense_replace": 1, "head_dim": 64, "hidden_act": "silu", "hidden_size": 256,
    "intermediate_size": 384, "max_position_embeddings": 4096, "model_type": "bailing_moe", "moe_intermediate_size": 128,
    "moe_router_enable_expert_bias": True, "n_group": 1, "norm_head": False, "norm_softmax": False, "norm_topk_prob": True,
    "num_attention_heads": 4, "num_experts": 4, "num_experts_per_tok": 2, "num_hidden_layers": 3, "num_key_value_heads": 2,
    "num_nextn_predict_layers": 1, "num_shared_experts": 1, "partial_rotary_factor": 0.5, "rms_norm_eps": 1e-6, "rope_scaling": None,
    "rope_theta": 600000.0, "routed_scaling_factor": 2.5, "score_function": "sigmoid", "tie_word_embeddings": False, "topk_group": 1,
    "torch_dtype": "bfloat16", "use_bias": False, "use_qk_norm": True, "use_qkv_bias": False, "vocab_size": 512,
}
HUNYUAN = {
    "architectures": ["HunYuanMoEV1ForCausalLM"], "attention_bias": False, "attention_head_dim": 64, "cla_share_factor": 2, "hidden_act": "silu",
    "hidden_size": 256, "intermediate_size": 128, "max_position_embeddings": 4096, "model_type": "hunyuan", "moe_intermediate_size": [128, 128],
    "moe_topk": 2, "num_attention_heads": 4, "num_experts": 4, "num_hidden_layers": 2, "num_key_value_heads": 2, "num_shared_expert": 1,
    "rms_norm_eps": 1e-5, "rope_scaling": {"alpha": 1000.0, "factor": 1.0, "type": "dynamic"}, "rope_theta": 10000.0,
    "tie_word_embeddings": True, "torch_dtype": "bfloat16", "use_cla": False, "use_mixed_mlp_moe": True, "use_qk_norm": True, "vocab_size": 512,
}
ERNIE = {
    "architectures": ["Ernie4_5_MoeForCausalLM"], "head_dim": 64, "hidden_act": "silu", "hidden_size": 256, "intermediate_size": 384,
    "max_position_embeddings": 4096, "model_type": "ernie4_5_moe", "moe_capacity": [4, 4, 4], "moe_gate": "topk",
    "moe_intermediate_size": 128, "moe_k": 2, "moe_layer_end_index": 2, "moe_layer_interval": 1, "moe_layer_start_index": 1,
    "moe_num_experts": 4, "moe_num_shared_experts": 1, "moe_use_aux_free": True, "num_attention_heads": 4, "num_hidden_layers": 3,
    "num_key_value_heads": 2, "num_nextn_predict_layers": 1, "rms_norm_eps": 1e-5, "rope_theta": 500000.0, "tie_word_embeddings": False,
    "torch_dtype": "bfloat16", "use_bias": False, "vocab_size": 512,
}
DOTS = glm.CONFIG | {"architectures": ["Dots1ForCausalLM"], "attention_bias": False, "model_type": "dots1", "num_nextn_predict_layers": 0,
                     "scoring_func": "noaux_tc"}


def nemotron_layer(s: Source, prefix: str, c: dict, kind: str) -> None:
    hidden, mixer = c["hidden_size"], f"{prefix}.mixer"
    s.norms(prefix, hidden, "norm")
    if kind == "M":
        heads = c["mamba_num_heads"]
        inner, state = heads * c["mamba_head_dim"], 2 * c["n_groups"] * c["ssm_state_size"]
        s.linear(f"{mixer}.in_proj", 2 * inner + state + heads, hidden)
        s.plain(f"{mixer}.conv1d.weight", inner + state, 1, c["conv_kernel"])
        s.plain(f"{mixer}.conv1d.bias", inner + state)
        for name in ("A_log", "D", "dt_bias"):
            s.plain(f"{mixer}.{name}", heads, dtype=F32)
        s.norms(mixer, inner, "norm")
        s.linear(f"{mixer}.out_proj", hidden, inner)
    elif kind == "E":
        s.plain(f"{mixer}.gate.weight", c["n_routed_experts"], hidden)
        s.plain(f"{mixer}.gate.e_score_correction_bias", c["n_routed_experts"], dtype=F32)
        widths = {f"experts.{e}": c["moe_intermediate_size"] for e in range(c["n_routed_experts"])}
        for name, inner in {**widths, "shared_experts": c["moe_shared_expert_intermediate_size"]}.items():
            s.linear(f"{mixer}.{name}.up_proj", inner, hidden)  # no gate: a squared ReLU
            s.linear(f"{mixer}.{name}.down_proj", hidden, inner)
    else:
        glm.attention(s, mixer, c | {"use_qk_norm": False})


def build_nemotron(s: Source, c: dict) -> None:
    s.ends(c, "backbone", "embeddings", "norm_f")
    for index, kind in enumerate(c["hybrid_override_pattern"]):
        nemotron_layer(s, f"backbone.layers.{index}", c, kind)
    nemotron_layer(s, "mtp.layers.0", c, "*")


def llama_builder(stacked: bool):
    """Attention, router and vision are bf16; experts are separate, or stacked and transposed with
    one scale per projection."""
    def build(s: Source, c: dict) -> None:
        text = c["text_config"]
        hidden, inner, number = text["hidden_size"], text["intermediate_size"], text["num_local_experts"]
        s.ends(text, "language_model.model", head="language_model.lm_head")
        for index in range(text["num_hidden_layers"]):
            prefix = f"language_model.model.layers.{index}"
            s.norms(prefix, hidden, "input_layernorm", "post_attention_layernorm")
            for name, rows in (("q_proj", 256), ("k_proj", 128), ("v_proj", 128)):
                s.plain(f"{prefix}.self_attn.{name}.weight", rows, hidden)
            s.plain(f"{prefix}.self_attn.o_proj.weight", hidden, 256)
            if index not in text["moe_layers"]:
                s.mlp(f"{prefix}.feed_forward", hidden, text["intermediate_size_mlp"])
                continue
            s.plain(f"{prefix}.feed_forward.router.weight", number, hidden)
            s.mlp(f"{prefix}.feed_forward.shared_expert", hidden, inner)
            if stacked:
                s.parameter(f"{prefix}.feed_forward.experts.gate_up_proj", number, hidden, 2 * inner)
                s.parameter(f"{prefix}.feed_forward.experts.down_proj", number, inner, hidden)
            for expert in range(0 if stacked else number):
                s.mlp(f"{prefix}.feed_forward.experts.{expert}", hidden, inner)
        towers.llama4(s, hidden)
    return build


def build_bailing(s: Source, c: dict) -> None:
    s.ends(c, embedding="word_embeddings")
    hidden, dim, heads, groups = c["hidden_size"], c["head_dim"], c["num_attention_heads"], c["num_key_value_heads"]
    for index in range(c["num_hidden_layers"] + c["num_nextn_predict_layers"]):
        prefix = f"model.layers.{index}"
        s.norms(prefix, hidden, "input_layernorm", "post_attention_layernorm")
        s.linear(f"{prefix}.attention.query_key_value", (heads + 2 * groups) * dim, hidden)
        s.linear(f"{prefix}.attention.dense", hidden, heads * dim)
        s.norms(f"{prefix}.attention", dim, "query_layernorm", "key_layernorm")
        if index < c["first_k_dense_replace"]:
            s.mlp(f"{prefix}.mlp", hidden, c["intermediate_size"])
            continue
        s.plain(f"{prefix}.mlp.gate.weight", c["num_experts"], hidden)
        s.plain(f"{prefix}.mlp.gate.expert_bias", c["num_experts"], dtype=F32)
        s.mlp(f"{prefix}.mlp.shared_experts", hidden, c["moe_intermediate_size"] * c["num_shared_experts"])
        for expert in range(c["num_experts"]):
            s.mlp(f"{prefix}.mlp.experts.{expert}", hidden, c["moe_intermediate_size"])
    last = f"model.layers.{c['num_hidden_layers']}"
    s.norms(last, hidden, "enorm", "hnorm", "final_layernorm")
    s.plain(f"{last}.eh_proj.weight", hidden, 2 * hidden)


def build_hunyuan(s: Source, c: dict) -> None:
    s.ends(c)
    hidden, inner = c["hidden_size"], c["moe_intermediate_size"][0]
    for prefix in (f"model.layers.{i}" for i in range(c["num_hidden_layers"])):
        s.norms(prefix, hidden, "input_layernorm", "post_attention_layernorm")
        glm.attention(s, f"{prefix}.self_attn", c | {"use_qk_norm": False, "head_dim": c["attention_head_dim"]})
        s.norms(f"{prefix}.self_attn", c["attention_head_dim"], "query_layernorm", "key_layernorm")
        s.plain(f"{prefix}.mlp.gate.wg.weight", c["num_experts"], hidden, dtype=F32)
        s.mlp(f"{prefix}.mlp.shared_mlp", hidden, c["intermediate_size"] * c["num_shared_expert"])
        for expert in range(c["num_experts"]):
            s.mlp(f"{prefix}.mlp.experts.{expert}", hidden, inner)


def build_ernie(s: Source, c: dict) -> None:
    s.ends(c)
    hidden, number = c["hidden_size"], c["moe_num_experts"]
    for index in range(c["num_hidden_layers"]):
        prefix = f"model.layers.{index}"
        s.norms(prefix, hidden, "input_layernorm", "post_attention_layernorm")
        glm.attention(s, f"{prefix}.self_attn", c | {"use_qk_norm": False, "attention_bias": False})
        if index < c["moe_layer_start_index"]:
            s.mlp(f"{prefix}.mlp", hidden, c["intermediate_size"])
            continue
        s.plain(f"{prefix}.mlp.gate.weight", number, hidden, dtype=F32)
        s.plain(f"{prefix}.mlp.moe_statics.e_score_correction_bias", 1, number, dtype=F32)
        s.mlp(f"{prefix}.mlp.shared_experts", hidden, c["moe_intermediate_size"] * c["moe_num_shared_experts"])
        for expert in range(number):
            s.mlp(f"{prefix}.mlp.experts.{expert}", hidden, c["moe_intermediate_size"])
    s.norms("model", hidden, "mtp_emb_norm.0", "mtp_hidden_norm.0", "mtp_block.0.input_layernorm")
    s.linear("model.mtp_block.0.self_attn.q_proj", 256, hidden)
    s.linear("model.mtp_linear_proj.0", hidden, 2 * hidden)




def rules_nemotron(c: dict) -> list[Rule]:
    return [switch({"up_proj": "fc1", "down_proj": "fc2"}), conv1d()]


def rules_llama(c: dict) -> list[Rule]:
    return [drop(r"^vision_model|^multi_modal_projector"), unstacked("experts", transposed=True), switch(GLU, to="experts")]


def rules_bailing(c: dict) -> list[Rule]:
    return [switch(GLU), rename(r"\.mlp\.gate\.weight$", ".mlp.gate.gate_proj.weight")]


def rules_ernie(c: dict) -> list[Rule]:
    return [switch(GLU), drop("e_score_correction_bias")]


def rules_dots(c: dict) -> list[Rule]:
    return [switch(GLU, to="experts")]


NO_VISION_RULES: list[Rule] = []
FAMILIES = [
    Family("nemotron_h", NEMOTRON, build_nemotron, rules_nemotron, dropped=r"^mtp\.", variants=(Variant(MODELOPT), Variant(MODELOPT_BLOCK))),
    Family("llama4", LLAMA, llama_builder(stacked=False), rules_llama, form="stacked, transposed", vision=NO_VISION_RULES, variants=(
        Variant(CT_CHANNEL, note="one tensor per expert"),
        Variant(MODELOPT_STACK, note="stacked and transposed", build=llama_builder(stacked=True)))),
    Family("bailing_moe", BAILING, build_bailing, rules_bailing, dropped=r"^model\.layers\.3\.", variants=(
        Variant(BLOCK_F32), Variant(CT_CHANNEL_F32))),
    Family("hunyuan", HUNYUAN, build_hunyuan, glm.rules, variants=(
        Variant(LEGACY),
        Variant(LEGACY, {"model_type": "hunyuan_v1_moe", "head_dim": 64}, "model_type hunyuan_v1_moe", mlx_lm_type="hunyuan",
                vlm_rejects=("auto",)))),
    Family("ernie4_5_moe", ERNIE, build_ernie, rules_ernie, dropped=r"^model\.mtp_", variants=(Variant(CT_CHANNEL), Variant(CT_BLOCK))),
    Family("dots1", DOTS, glm.build, rules_dots, variants=(Variant(CT_CHANNEL), Variant(CT_TENSOR))),
]
