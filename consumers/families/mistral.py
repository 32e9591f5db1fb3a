"""Ministral 3 and Mistral Small 4, both inside a mistral3 wrapper with a Pixtral tower."""

from dialects import BLOCK_F32, TENSOR_111, TENSOR_BF16
from families import deepseek, towers
from families.family import Family, Variant
from mapping import GLU, Rule, absorbed, drop, rename, switch, unstacked
from sources import Source

DENSE = {
    "head_dim": 64, "hidden_act": "silu", "hidden_size": 256, "intermediate_size": 384, "max_position_embeddings": 4096,
    "model_type": "ministral3", "num_attention_heads": 4, "num_hidden_layers": 2, "num_key_value_heads": 2, "rms_norm_eps": 1e-5,
    "rope_parameters": {"beta_fast": 32.0, "beta_slow": 1.0, "factor": 16.0, "llama_4_scaling_beta": 0.1, "mscale": 1.0, "mscale_all_dim": 1.0,
                        "original_max_position_embeddings": 256, "rope_theta": 1000000.0, "rope_type": "yarn", "type": "yarn"},
    "sliding_window": None, "tie_word_embeddings": False, "vocab_size": 512,
}
MOE = DENSE | {
    "first_k_dense_replace": 0, "kv_lora_rank": 128, "model_type": "mistral4", "moe_intermediate_size": 128, "n_group": 1, "n_routed_experts": 4,
    "n_shared_experts": 1, "norm_topk_prob": True, "num_experts_per_tok": 2, "num_key_value_heads": 4, "q_lora_rank": 64, "qk_head_dim": 96,
    "qk_nope_head_dim": 64, "qk_rope_head_dim": 32, "head_dim": 96, "rope_interleave": True, "routed_scaling_factor": 1.0, "topk_group": 1,
    "v_head_dim": 64}


def wrapped(text: dict) -> dict:
    return {"architectures": ["Mistral3ForConditionalGeneration"], "dtype": "bfloat16", "image_token_index": 10, "model_type": "mistral3",
            "multimodal_projector_bias": False, "projector_hidden_act": "gelu", "spatial_merge_size": 2, "text_config": text,
            "vision_config": towers.PIXTRAL, "vision_feature_layer": -1}


def dense_layer(s: Source, prefix: str, c: dict) -> None:
    hidden, dim = c["hidden_size"], c["head_dim"]
    for name, heads in (("q_proj", c["num_attention_heads"]), ("k_proj", c["num_key_value_heads"]), ("v_proj", c["num_key_value_heads"])):
        s.linear(f"{prefix}.self_attn.{name}", heads * dim, hidden)
    s.linear(f"{prefix}.self_attn.o_proj", hidden, c["num_attention_heads"] * dim)
    s.mlp(f"{prefix}.mlp", hidden, c["intermediate_size"])


def stacked_experts(s: Source, prefix: str, c: dict) -> None:
    number, hidden, inner = c["n_routed_experts"], c["hidden_size"], c["moe_intermediate_size"]
    s.parameter(f"{prefix}.gate_up_proj", number, 2 * inner, hidden)
    s.parameter(f"{prefix}.down_proj", number, hidden, inner)


def single_experts(s: Source, prefix: str, c: dict) -> None:
    for expert in range(c["n_routed_experts"]):
        s.mlp(f"{prefix}.{expert}", c["hidden_size"], c["moe_intermediate_size"])


def moe_layer(s: Source, prefix: str, c: dict, experts) -> None:
    deepseek.latent_attention(s, f"{prefix}.self_attn", c)
    s.plain(f"{prefix}.mlp.gate.weight", c["n_routed_experts"], c["hidden_size"])
    s.mlp(f"{prefix}.mlp.shared_experts", c["hidden_size"], c["moe_intermediate_size"] * c["n_shared_experts"])
    experts(s, f"{prefix}.mlp.experts", c)


def builder(new_names: bool = False, experts=stacked_experts):
    """Releases have language_model.model.layers, newer ones model.language_model.layers."""
    def build(s: Source, c: dict) -> None:
        text = c["text_config"]
        root, head = ("model.language_model", "lm_head") if new_names else ("language_model.model", "language_model.lm_head")
        s.ends(text, root, head=head)
        for prefix in (f"{root}.layers.{i}" for i in range(text["num_hidden_layers"])):
            s.norms(prefix, text["hidden_size"], "input_layernorm", "post_attention_layernorm")
            if text["model_type"] == "mistral4":
                moe_layer(s, prefix, text, experts)
            else:
                dense_layer(s, prefix, text)
        towers.pixtral(s, "model." if new_names else "", text["hidden_size"])
    return build


OUTER = [drop(r"vision_tower|multi_modal_projector"), rename(r"^model\.language_model\.", "language_model.model."),
         rename(r"^lm_head", "language_model.lm_head")]


def rules(c: dict) -> list[Rule]:
    return OUTER


def rules_moe(c: dict) -> list[Rule]:
    text = c["text_config"]
    return [*OUTER, unstacked(), switch(GLU), absorbed(text["num_attention_heads"], text["qk_nope_head_dim"], text["v_head_dim"])]


def rules_vlm(c: dict) -> list[Rule]:
    """mlx-vlm keeps kv_b_proj whole in this family, and does not know mlx-lm's halves of it."""
    return [*OUTER, unstacked(), switch(GLU)]


FAMILIES = [
    Family("ministral3", wrapped(DENSE), builder(), rules, vision=towers.PIXTRAL_RULES, variants=(
        Variant(TENSOR_BF16),
        Variant(TENSOR_BF16, {"text_config.tie_word_embeddings": True}, "new names, tied embeddings", builder(new_names=True)))),
    Family("mistral4", wrapped(MOE), builder(), rules_moe, form="stacked", mlx=True, vision=towers.PIXTRAL_RULES, vlm_rules=rules_vlm,
           vlm_rejects=("mlx",), variants=(
        Variant(TENSOR_111),
        Variant(TENSOR_BF16, note="scales [E], new names", build=builder(new_names=True)),
        Variant(BLOCK_F32, note="one tensor per expert", build=builder(experts=single_experts)))),
]
