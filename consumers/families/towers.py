"""The vision towers that multimodal releases carry in bf16 beside their FP8 text models."""

import numpy as np
from mapping import Rule, change, rename
from sources import Source
from weights import Builder, Spec

PIXTRAL = {"head_dim": 16, "hidden_act": "silu", "hidden_size": 32, "image_size": 64, "intermediate_size": 64, "model_type": "pixtral",
           "num_attention_heads": 2, "num_channels": 3, "num_hidden_layers": 2, "patch_size": 16, "rope_theta": 10000.0}
LLAMA4 = {"hidden_act": "gelu", "hidden_size": 32, "image_size": 32, "initializer_range": 0.02, "intermediate_size": 128,
          "model_type": "llama4_vision_model", "multi_modal_projector_bias": False, "norm_eps": 1e-5, "num_attention_heads": 2, "num_channels": 3,
          "num_hidden_layers": 2, "patch_size": 16, "pixel_shuffle_ratio": 0.5, "projector_dropout": 0.0, "projector_input_dim": 48,
          "projector_output_dim": 48, "rope_theta": 10000, "vision_feature_layer": -1, "vision_feature_select_strategy": "default",
          "vision_output_dim": 48}
DEEPSTACK = 2  # layers of Qwen3-VL's tower whose output goes into the text model as well

last_axis: Rule = change(r"\.patch_(embed\.proj|conv)\.weight$", lambda tensor: np.moveaxis(tensor, 1, -1))  # channels
QWEN_RULES = [rename(r"^model\.visual\.", "vision_tower."), last_axis]
PIXTRAL_RULES = [rename(r"^model\.", ""), rename(r"^vision_tower\.", "vision_tower.vision_model."), last_axis]


def biased(s: Source, name: str, *shape: int) -> None:
    s.plain(f"{name}.weight", *shape)
    s.plain(f"{name}.bias", shape[0])


def qwen(s: Source, hidden: int, deepstack: bool = False) -> None:
    tower = Builder(Spec(hidden=hidden))
    tower.vision_tower()
    s.published |= tower.tensors
    s.values |= tower.tensors
    merged = 32 * 4
    for index in range(DEEPSTACK if deepstack else 0):
        merger = f"model.visual.deepstack_merger_list.{index}"
        biased(s, f"{merger}.norm", merged)
        biased(s, f"{merger}.linear_fc1", merged, merged)
        biased(s, f"{merger}.linear_fc2", hidden, merged)


def pixtral(s: Source, prefix: str, hidden: int) -> None:
    c, tower, projector = PIXTRAL, f"{prefix}vision_tower", f"{prefix}multi_modal_projector"
    dim = c["hidden_size"]
    s.plain(f"{tower}.patch_conv.weight", dim, 3, c["patch_size"], c["patch_size"])
    s.norms(tower, dim, "ln_pre")
    for layer in (f"{tower}.transformer.layers.{i}" for i in range(c["num_hidden_layers"])):
        s.norms(layer, dim, "attention_norm", "ffn_norm")
        for name in ("q_proj", "k_proj", "v_proj", "o_proj"):
            s.plain(f"{layer}.attention.{name}.weight", dim, dim)
        for name, shape in (("gate_proj", (64, dim)), ("up_proj", (64, dim)), ("down_proj", (dim, 64))):
            s.plain(f"{layer}.feed_forward.{name}.weight", *shape)
    s.norms(projector, dim, "norm")
    s.plain(f"{projector}.patch_merger.merging_layer.weight", dim, 4 * dim)
    s.plain(f"{projector}.linear_1.weight", hidden, dim)
    s.plain(f"{projector}.linear_2.weight", hidden, hidden)


def llama4(s: Source, hidden: int) -> None:
    c, tower = LLAMA4, "vision_model"
    dim, inner = c["hidden_size"], c["intermediate_size"]
    s.plain(f"{tower}.class_embedding", dim)
    s.plain(f"{tower}.positional_embedding_vlm", (c["image_size"] // c["patch_size"]) ** 2 + 1, dim)
    s.plain(f"{tower}.patch_embedding.linear.weight", dim, 3 * c["patch_size"] ** 2)
    for name in ("layernorm_pre", "layernorm_post"):
        biased(s, f"{tower}.{name}", dim)
    for layer in (f"{tower}.model.layers.{i}" for i in range(c["num_hidden_layers"])):
        for name in ("input_layernorm", "post_attention_layernorm"):
            biased(s, f"{layer}.{name}", dim)
        for name in ("q_proj", "k_proj", "v_proj", "o_proj"):
            biased(s, f"{layer}.self_attn.{name}", dim, dim)
        biased(s, f"{layer}.mlp.fc1", inner, dim)
        biased(s, f"{layer}.mlp.fc2", dim, inner)
    # four patches become one, a quarter as wide each
    s.plain(f"{tower}.vision_adapter.mlp.fc1.weight", c["projector_input_dim"], inner)
    s.plain(f"{tower}.vision_adapter.mlp.fc2.weight", c["projector_output_dim"], c["projector_input_dim"])
    s.plain("multi_modal_projector.linear_1.weight", hidden, c["vision_output_dim"])
