"""Qwen3 and its descendants."""

from dataclasses import replace

import checkpoints
from dialects import BLOCK_BF16, BLOCK_F32, CT_CHANNEL, MODELOPT_BLOCK
from families import towers
from families.family import Family, Variant
from mapping import GLU, Rule, conv1d, drop, plus_one, rename, switch, unstacked
from sources import Source
from weights import F32, FP8, ODD, Builder, Spec

CONFIG = {
    "architectures": ["Qwen3MoeForCausalLM"], "attention_bias": False, "decoder_sparse_step": 1, "head_dim": 64, "hidden_act": "silu",
    "hidden_size": 256, "intermediate_size": 384, "max_position_embeddings": 4096, "mlp_only_layers": [], "model_type": "qwen3_moe",
    "moe_intermediate_size": 128, "norm_topk_prob": True, "num_attention_heads": 4, "num_experts": 4, "num_experts_per_tok": 2,
    "num_hidden_layers": 2, "num_key_value_heads": 2, "rms_norm_eps": 1e-6, "rope_scaling": None, "rope_theta": 1000000.0,
    "tie_word_embeddings": False, "torch_dtype": "bfloat16", "vocab_size": 512,
}
EXPERTS = ("num_experts", "moe_intermediate_size", "num_experts_per_tok")
DENSE = {key: value for key, value in CONFIG.items() if key not in EXPERTS} | {"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3"}
NEXT = CONFIG | {
    "architectures": ["Qwen3NextForCausalLM"], "full_attention_interval": 4, "linear_conv_kernel_dim": 4, "linear_key_head_dim": 64,
    "linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_value_head_dim": 64, "model_type": "qwen3_next", "num_hidden_layers": 4,
    "partial_rotary_factor": 0.25, "shared_expert_intermediate_size": 128}
VL = {
    "architectures": ["Qwen3VLMoeForConditionalGeneration"], "image_token_id": 10, "model_type": "qwen3_vl_moe",
    "text_config": {key: value for key, value in CONFIG.items() if key not in ("architectures", "torch_dtype")} | {
        "dtype": "bfloat16", "model_type": "qwen3_vl_moe_text", "moe_intermediate_size": 192,
        "rope_scaling": {"mrope_interleaved": True, "mrope_section": [12, 10, 10], "rope_type": "default"}},
    "tie_word_embeddings": False, "video_token_id": 11,
    "vision_config": checkpoints.VISION | {"deepstack_visual_indexes": [0, 1], "model_type": "qwen3_vl_moe", "out_hidden_size": 256},
    "vision_end_token_id": 13, "vision_start_token_id": 12,
}


def attention(s: Source, prefix: str, c: dict, gated: bool = False) -> None:
    hidden, dim = c["hidden_size"], c["head_dim"]
    s.linear(f"{prefix}.q_proj", (2 if gated else 1) * c["num_attention_heads"] * dim, hidden)
    s.linear(f"{prefix}.k_proj", c["num_key_value_heads"] * dim, hidden)
    s.linear(f"{prefix}.v_proj", c["num_key_value_heads"] * dim, hidden)
    s.linear(f"{prefix}.o_proj", hidden, c["num_attention_heads"] * dim)
    s.norms(prefix, dim, "q_norm", "k_norm", mean=0.0 if gated else 1.0)


def linear_attention(s: Source, prefix: str, c: dict) -> None:
    hidden, heads = c["hidden_size"], c["linear_num_value_heads"]
    key, value = c["linear_num_key_heads"] * c["linear_key_head_dim"], heads * c["linear_value_head_dim"]
    s.linear(f"{prefix}.in_proj_qkvz", 2 * key + 2 * value, hidden)
    s.plain(f"{prefix}.in_proj_ba.weight", 2 * heads, hidden)
    s.plain(f"{prefix}.conv1d.weight", 2 * key + value, 1, c["linear_conv_kernel_dim"])
    s.plain(f"{prefix}.A_log", heads, dtype=F32)
    s.plain(f"{prefix}.dt_bias", heads)
    s.norms(prefix, c["linear_value_head_dim"], "norm")
    s.linear(f"{prefix}.out_proj", hidden, value)


def experts(s: Source, prefix: str, c: dict) -> None:
    for expert in range(c["num_experts"]):
        s.mlp(f"{prefix}.experts.{expert}", c["hidden_size"], c["moe_intermediate_size"])


def stacked_experts(s: Source, prefix: str, c: dict) -> None:
    """As Qwen3-VL-MoE publishes them: transposed, and so are their scales."""
    number, hidden, inner = c["num_experts"], c["hidden_size"], c["moe_intermediate_size"]
    s.parameter(f"{prefix}.experts.gate_up_proj", number, hidden, 2 * inner)
    s.parameter(f"{prefix}.experts.down_proj", number, inner, hidden)


def layer(s: Source, prefix: str, c: dict, experts=experts) -> None:
    hidden = c["hidden_size"]
    s.norms(prefix, hidden, "input_layernorm", "post_attention_layernorm")
    attention(s, f"{prefix}.self_attn", c)
    if c.get("num_experts"):
        s.plain(f"{prefix}.mlp.gate.weight", c["num_experts"], hidden)
        experts(s, f"{prefix}.mlp", c)
    else:
        s.mlp(f"{prefix}.mlp", hidden, c["intermediate_size"])


def build(s: Source, c: dict) -> None:
    s.ends(c)
    for index in range(c["num_hidden_layers"]):
        layer(s, f"model.layers.{index}", c)


def next_layer(s: Source, prefix: str, c: dict, full: bool) -> None:
    hidden = c["hidden_size"]
    s.norms(prefix, hidden, "input_layernorm", "post_attention_layernorm", mean=0.0)
    if full:
        attention(s, f"{prefix}.self_attn", c, gated=True)
    else:
        linear_attention(s, f"{prefix}.linear_attn", c)
    s.plain(f"{prefix}.mlp.gate.weight", c["num_experts"], hidden)
    s.plain(f"{prefix}.mlp.shared_expert_gate.weight", 1, hidden)
    s.mlp(f"{prefix}.mlp.shared_expert", hidden, c["shared_expert_intermediate_size"])
    experts(s, f"{prefix}.mlp", c)


def build_next(s: Source, c: dict) -> None:
    s.ends(c, mean=0.0)
    for index in range(c["num_hidden_layers"]):
        next_layer(s, f"model.layers.{index}", c, full=(index + 1) % c["full_attention_interval"] == 0)
    next_layer(s, "mtp.layers.0", c, full=True)
    s.plain("mtp.fc.weight", c["hidden_size"], 2 * c["hidden_size"])
    s.norms("mtp", c["hidden_size"], "norm", "pre_fc_norm_embedding", "pre_fc_norm_hidden", mean=0.0)


def build_vl(s: Source, c: dict, experts=stacked_experts) -> None:
    text = c["text_config"]
    s.ends(text, "model.language_model")
    for index in range(text["num_hidden_layers"]):
        layer(s, f"model.language_model.layers.{index}", text, experts)
    towers.qwen(s, text["hidden_size"], deepstack=True)


def build_vl_per_expert(s: Source, c: dict) -> None:
    build_vl(s, c, experts)


def build_spec(spec: Spec):
    """The tensors of the other tests, in any dialect."""
    def build(s: Source, c: dict) -> None:
        for name, tensor in Builder(spec).build().items():
            if tensor.dtype == FP8:
                s.parameter(name, *tensor.shape)
            elif not name.endswith("_scale_inv"):
                s.published[name] = s.values[name] = tensor
    return build


NORMS = r"(\.input_layernorm|\.post_attention_layernorm|\.q_norm|\.k_norm|model\.norm)\.weight$"
OUTER = [drop(r"^model\.visual\."), rename(r"^model\.(language_model\.)?", "language_model.model."), rename(r"^lm_head", "language_model.lm_head")]


def rules(c: dict) -> list[Rule]:
    return [switch(GLU)]


def rules_next(c: dict) -> list[Rule]:
    return [switch(GLU), conv1d(), plus_one(NORMS)]


def rules_35(c: dict) -> list[Rule]:
    return [*OUTER, switch(GLU), conv1d(), plus_one(NORMS)]


def rules_vl(c: dict) -> list[Rule]:
    return [*OUTER, unstacked(transposed=True), switch(GLU)]


MOE_35, DENSE_35 = Spec(mtp=True, vision=True), Spec(moe=False, mtp=True, vision=True, intermediate=256)


def config(spec: Spec) -> dict:
    return checkpoints.config(replace(spec, fp8=False))


def odd(spec: Spec, dialect) -> Variant:
    spec = replace(spec, **ODD)
    return Variant(dialect, config(spec), "partial blocks", build_spec(spec), whole=True)


def flat(spec: Spec, family: str) -> Variant:
    """As derivatives are published: only the text model, with its own model type."""
    spec = replace(spec, flat=True, vision=False)
    return Variant(BLOCK_F32, config(spec), f"model_type {family}_text", build_spec(spec), mlx_lm_type=family, whole=True,
                   vlm_rejects=("mlx",))


FAMILIES = [
    Family("qwen3_5_moe", config(MOE_35), build_spec(MOE_35), rules_35, form="stacked", mlx=True, dropped=r"^mtp\.", vision=towers.QWEN_RULES,
           variants=(Variant(BLOCK_BF16), odd(MOE_35, BLOCK_BF16), flat(MOE_35, "qwen3_5_moe"))),
    Family("qwen3_5", config(DENSE_35), build_spec(DENSE_35), rules_35, mlx=True, dropped=r"^mtp\.", vision=towers.QWEN_RULES,
           variants=(Variant(BLOCK_BF16), odd(DENSE_35, BLOCK_F32), flat(DENSE_35, "qwen3_5"))),
    Family("qwen3_moe", CONFIG, build, rules, mlx=True, variants=(
        Variant(BLOCK_BF16), Variant(CT_CHANNEL), Variant(MODELOPT_BLOCK),
        Variant(BLOCK_BF16, {"hidden_size": 200, "moe_intermediate_size": 136, "head_dim": 40}, "partial blocks"))),
    Family("qwen3", DENSE, build, rules, mlx=True, variants=(Variant(BLOCK_BF16, {"hidden_size": 200}, "partial blocks"),)),
    Family("qwen3_next", NEXT, build_next, rules_next, mlx=True, dropped=r"^mtp\.", variants=(
        Variant(BLOCK_BF16), Variant(BLOCK_BF16, {"hidden_size": 200, "moe_intermediate_size": 136}, "partial blocks"))),
    Family("qwen3_vl_moe", VL, build_vl, rules_vl, form="stacked, transposed", vision=towers.QWEN_RULES, variants=(
        Variant(BLOCK_F32, note="stacked and transposed"),
        Variant(BLOCK_BF16, {"text_config.hidden_size": 200, "text_config.moe_intermediate_size": 136, "vision_config.out_hidden_size": 200},
                "stacked and transposed, partial blocks"),
        Variant(BLOCK_BF16, {"text_config.moe_intermediate_size": 128}, "stacked and transposed, 2I = H"),
        Variant(BLOCK_BF16, note="one tensor per expert", build=build_vl_per_expert))),
]
