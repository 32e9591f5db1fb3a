"""Models with multi-head latent attention and DeepSeek's names."""

from dialects import BLOCK_F32, UE8M0, UE8M0_F32, UE8M0_U8
from families.family import Family, Variant
from mapping import GLU, Rule, absorbed, switch
from sources import Source
from weights import F32

CONFIG = {
    "architectures": ["DeepseekV3ForCausalLM"], "attention_bias": False, "first_k_dense_replace": 1, "hidden_act": "silu", "hidden_size": 256,
    "intermediate_size": 384, "kv_lora_rank": 128, "max_position_embeddings": 4096, "model_type": "deepseek_v3",
    "moe_intermediate_size": 128, "moe_layer_freq": 1, "n_group": 1, "n_routed_experts": 4, "n_shared_experts": 1, "norm_topk_prob": True,
    "num_attention_heads": 4, "num_experts_per_tok": 2, "num_hidden_layers": 3, "num_key_value_heads": 4, "num_nextn_predict_layers": 1,
    "q_lora_rank": 64, "qk_nope_head_dim": 64, "qk_rope_head_dim": 32, "rms_norm_eps": 1e-6, "rope_theta": 10000,
    "routed_scaling_factor": 2.5, "scoring_func": "sigmoid", "tie_word_embeddings": False, "topk_group": 1, "topk_method": "noaux_tc",
    "torch_dtype": "bfloat16", "v_head_dim": 64, "vocab_size": 512,
}
INDEXER = {"index_head_dim": 64, "index_n_heads": 2, "index_topk": 16}


def latent_attention(s: Source, prefix: str, c: dict) -> None:
    hidden, heads, lora = c["hidden_size"], c["num_attention_heads"], c["kv_lora_rank"]
    s.linear(f"{prefix}.q_a_proj", c["q_lora_rank"], hidden)
    s.norms(prefix, c["q_lora_rank"], "q_a_layernorm")
    s.linear(f"{prefix}.q_b_proj", heads * (c["qk_nope_head_dim"] + c["qk_rope_head_dim"]), c["q_lora_rank"])
    # 160 rows over 2 scales, 576 over 5
    s.linear(f"{prefix}.kv_a_proj_with_mqa", lora + c["qk_rope_head_dim"], hidden)
    s.norms(prefix, lora, "kv_a_layernorm")
    s.linear(f"{prefix}.kv_b_proj", heads * (c["qk_nope_head_dim"] + c["v_head_dim"]), lora)
    s.linear(f"{prefix}.o_proj", hidden, heads * c["v_head_dim"])


def indexer(s: Source, prefix: str, c: dict) -> None:
    """Of sparse attention; its weights_proj is published in bf16."""
    heads, dim = c["index_n_heads"], c["index_head_dim"]
    s.linear(f"{prefix}.wq_b", heads * dim, c["q_lora_rank"])
    s.linear(f"{prefix}.wk", dim, c["hidden_size"])
    s.plain(f"{prefix}.k_norm.weight", dim)
    s.plain(f"{prefix}.k_norm.bias", dim)
    s.plain(f"{prefix}.weights_proj.weight", heads, c["hidden_size"])


def moe(s: Source, prefix: str, c: dict) -> None:
    hidden, inner = c["hidden_size"], c["moe_intermediate_size"]
    s.plain(f"{prefix}.gate.weight", c["n_routed_experts"], hidden)
    s.plain(f"{prefix}.gate.e_score_correction_bias", c["n_routed_experts"], dtype=F32)
    s.mlp(f"{prefix}.shared_experts", hidden, inner * c["n_shared_experts"])
    for expert in range(c["n_routed_experts"]):
        s.mlp(f"{prefix}.experts.{expert}", hidden, inner)


def layer(s: Source, prefix: str, c: dict, dense: bool) -> None:
    s.norms(prefix, c["hidden_size"], "input_layernorm", "post_attention_layernorm")
    latent_attention(s, f"{prefix}.self_attn", c)
    if "index_topk" in c:
        indexer(s, f"{prefix}.self_attn.indexer", c)
    if dense:
        s.mlp(f"{prefix}.mlp", c["hidden_size"], c["intermediate_size"])
    else:
        moe(s, f"{prefix}.mlp", c)


def prediction_layer(s: Source, prefix: str, c: dict) -> None:
    """Multi-token prediction, with copies of the embedding and the head of its own."""
    layer(s, prefix, c, dense=False)
    s.norms(prefix, c["hidden_size"], "enorm", "hnorm", "shared_head.norm")
    s.plain(f"{prefix}.eh_proj.weight", c["hidden_size"], 2 * c["hidden_size"])
    s.plain(f"{prefix}.embed_tokens.weight", c["vocab_size"], c["hidden_size"])
    s.plain(f"{prefix}.shared_head.head.weight", c["vocab_size"], c["hidden_size"])


def build(s: Source, c: dict) -> None:
    s.ends(c)
    for index in range(c["num_hidden_layers"]):
        layer(s, f"model.layers.{index}", c, dense=index < c["first_k_dense_replace"])
    for index in range(c["num_nextn_predict_layers"]):
        prediction_layer(s, f"model.layers.{c['num_hidden_layers'] + index}", c)


def rules(c: dict) -> list[Rule]:
    return [switch(GLU), absorbed(c["num_attention_heads"], c["qk_nope_head_dim"], c["v_head_dim"])]


NO_MTP = {"num_nextn_predict_layers": 0}  # mlx-lm drops layer 61 only, wherever the layers end
KIMI = CONFIG | {"model_type": "kimi_k2", "num_nextn_predict_layers": 0, "kv_lora_rank": 512, "qk_rope_head_dim": 64, "v_head_dim": 80}
V32 = CONFIG | {"architectures": ["DeepseekV32ForCausalLM"], "model_type": "deepseek_v32", **INDEXER}

FAMILIES = [
    Family("deepseek_v3", CONFIG, build, rules, mlx=True, dropped=r"^model\.layers\.3\.", variants=(
        Variant(BLOCK_F32, note="160 rows over 2 scales"),
        Variant(BLOCK_F32, NO_MTP, "160 rows over 2 scales, no MTP layer"),
        Variant(UE8M0_F32, {"kv_lora_rank": 512, "qk_rope_head_dim": 64, **NO_MTP}, "576 rows over 5 scales, no MTP layer"),
        Variant(UE8M0_U8, NO_MTP, "no MTP layer"),
    )),
    Family("kimi_k2", KIMI, build, rules, mlx=True, variants=(Variant(BLOCK_F32, note="576 rows over 5 scales"),)),
    Family("deepseek_v32", V32, build, rules, dropped=r"^model\.layers\.3\.", variants=(
        Variant(UE8M0_F32, note="160 rows over 2 scales"),
        Variant(UE8M0),
    )),
]
