"""GLM-4.5 and its relatives, and GLM-5 with DeepSeek's attention."""

from dialects import BLOCK_F32, CT_CHANNEL, CT_CHANNEL_F32
from families import deepseek
from families.family import Family, Variant
from mapping import GLU, Rule, switch
from sources import Source

CONFIG = {
    "architectures": ["Glm4MoeForCausalLM"], "attention_bias": True, "first_k_dense_replace": 1, "head_dim": 64, "hidden_act": "silu",
    "hidden_size": 256, "intermediate_size": 384, "max_position_embeddings": 4096, "model_type": "glm4_moe", "moe_intermediate_size": 128,
    "n_group": 1, "n_routed_experts": 4, "n_shared_experts": 1, "norm_topk_prob": True, "num_attention_heads": 4, "num_experts_per_tok": 2,
    "num_hidden_layers": 3, "num_key_value_heads": 2, "num_nextn_predict_layers": 1, "partial_rotary_factor": 0.5, "rms_norm_eps": 1e-5,
    "rope_scaling": None, "rope_theta": 1000000, "routed_scaling_factor": 2.5, "tie_word_embeddings": False, "topk_group": 1,
    "torch_dtype": "bfloat16", "use_qk_norm": True, "vocab_size": 512,
}


def attention(s: Source, prefix: str, c: dict) -> None:
    hidden, dim = c["hidden_size"], c["head_dim"]
    for name, heads in (("q_proj", c["num_attention_heads"]), ("k_proj", c["num_key_value_heads"]), ("v_proj", c["num_key_value_heads"])):
        s.linear(f"{prefix}.{name}", heads * dim, hidden, bias=c["attention_bias"])
    s.linear(f"{prefix}.o_proj", hidden, c["num_attention_heads"] * dim)
    if c["use_qk_norm"]:
        s.norms(prefix, dim, "q_norm", "k_norm")


def layer(s: Source, prefix: str, c: dict, dense: bool) -> None:
    s.norms(prefix, c["hidden_size"], "input_layernorm", "post_attention_layernorm")
    attention(s, f"{prefix}.self_attn", c)
    if dense:
        s.mlp(f"{prefix}.mlp", c["hidden_size"], c["intermediate_size"])
    else:
        deepseek.moe(s, f"{prefix}.mlp", c)


def build(s: Source, c: dict) -> None:
    s.ends(c)
    last = c["num_hidden_layers"]
    for index in range(last + c.get("num_nextn_predict_layers", 0)):
        layer(s, f"model.layers.{index}", c, dense=index < c["first_k_dense_replace"])
    if c.get("num_nextn_predict_layers"):
        s.norms(f"model.layers.{last}", c["hidden_size"], "enorm", "hnorm", "shared_head.norm")
        s.plain(f"model.layers.{last}.eh_proj.weight", c["hidden_size"], 2 * c["hidden_size"])


def rules(c: dict) -> list[Rule]:
    return [switch(GLU)]


LITE = {key: value for key, value in deepseek.CONFIG.items()} | {
    "architectures": ["Glm4MoeLiteForCausalLM"], "model_type": "glm4_moe_lite", "partial_rotary_factor": 1.0}
DSA = {key: value for key, value in deepseek.CONFIG.items() if key != "rope_theta"} | {
    "architectures": ["GlmMoeDsaForCausalLM"], "model_type": "glm_moe_dsa", "rope_parameters": {"rope_theta": 1000000, "rope_type": "default"},
    "qk_nope_head_dim": 48, **deepseek.INDEXER}
SOLAR = CONFIG | {"architectures": ["SolarOpenForCausalLM"], "model_type": "solar_open", "attention_bias": False, "use_qk_norm": False,
                  "first_k_dense_replace": 0, "num_hidden_layers": 2, "num_nextn_predict_layers": 0, "partial_rotary_factor": 1.0}

FAMILIES = [
    Family("glm4_moe", CONFIG, build, rules, mlx=True, dropped=r"^model\.layers\.3\.", variants=(
        Variant(CT_CHANNEL),
        Variant(CT_CHANNEL_F32, {"moe_intermediate_size": 136, "hidden_size": 200, "n_routed_experts": 11}, "odd sizes, 11 experts"),
    )),
    Family("glm4_moe_lite", LITE, deepseek.build, deepseek.rules, dropped=r"^model\.layers\.3\.", variants=(Variant(CT_CHANNEL),)),
    Family("glm_moe_dsa", DSA, deepseek.build, deepseek.rules, dropped=r"^model\.layers\.3\.", variants=(
        Variant(BLOCK_F32, note="160 rows over 2 scales"),)),
    Family("solar_open", SOLAR, build, rules, variants=(Variant(CT_CHANNEL),)),
]
