"""From metalcast's output to the parameters of transformers' models, for the families that it knows
by their releases' model_type."""

import mapping
from cases import Case
from mapping import Rule, change, rename, stacked

WRAPPED: list[Rule] = [rename(r"^language_model\.lm_head", "lm_head"), rename(r"^language_model\.model\.", "model.language_model."),
                       rename(r"^(vision_tower|multi_modal_projector)", r"model.\1")]
MIXTRAL: list[Rule] = [rename(r"\.w1\.weight$", ".gate_proj.weight"), rename(r"\.w3\.weight$", ".up_proj.weight"),
                       rename(r"\.w2\.weight$", ".down_proj.weight"), stacked(), rename(r"\.block_sparse_moe\.", ".mlp.")]


def stacked_up_and_down(tensors: mapping.Tensors) -> mapping.Tensors:
    """Nemotron's experts, which have no gate."""
    tensors = mapping.switch({"up_proj": "up_proj", "down_proj": "down_proj"}, to="experts")(tensors)
    return rename(r"(\.experts\.(up|down)_proj)\.weight$", r"\1")(tensors)


RULES: dict[str, list[Rule]] = {
    **dict.fromkeys(["qwen3_moe", "qwen3", "qwen3_next", "deepseek_v3", "deepseek_v32", "glm4_moe", "glm4_moe_lite", "glm_moe_dsa", "solar_open",
                     "dots1", "longcat_flash", "qwen3_5_moe", "qwen3_5"], [stacked()]),
    "qwen3_vl_moe": [change(r"\.experts\.\w+_proj$", lambda tensor: tensor.swapaxes(1, 2))],
    "ministral3": WRAPPED,
    "mistral4": WRAPPED,
    "minimax": MIXTRAL,
    "mimo_v2_flash": [stacked(), rename(r"attention_sink_bias$", "sinks")],
    "nemotron_h": [stacked_up_and_down, rename(r"^backbone\.", "model.")],
    "llama4": [],
    "hunyuan": [stacked()],
    "ernie4_5_moe": [stacked(), rename(r"\.moe_statics\.", ".gate.moe_statics.")],
}


UNKNOWN = ("hunyuan",)  # it knows hunyuan_v1_moe


def parameters(case: Case) -> mapping.Tensors | None:
    if case.family.name not in RULES or case.published.config["model_type"] in UNKNOWN:
        return None
    return mapping.apply(RULES[case.family.name], case.expected())
