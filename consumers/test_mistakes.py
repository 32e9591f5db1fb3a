"""The acceptance tests distinguish right from wrong: they detect what a converter may get wrong,
even if mlx-lm loads it without complaint."""

import json

import mapping
import numpy as np
import oracle
import outcomes
import pytest
from cases import CASES, convert_naively
from weights import BF16, F32

LOADS, REJECTS, REPAIRS = "loads it, wrong", "rejects it", "makes it right again"


def case_named(name: str, layout: str):
    """The first of a family, or of those whose name begins like this."""
    return next(case for case in CASES if case.layout == layout and (case.family.name == name or str(case).startswith(name + ",")))


def rebuilt(*rules):
    """Another result, by other rules from the same values."""
    return lambda case: mapping.apply(rules, case.published.values())


def changed(pattern: str, how):
    return lambda case: mapping.change(pattern, how)(case.expected())


def swapped_halves(axis: int):
    return lambda tensor: np.roll(tensor, tensor.shape[axis] // 2, axis)


def renamed(pattern: str, replacement: str):
    return lambda case: mapping.rename(pattern, replacement)(case.expected())


def dequantized_with(block: tuple[int, int], late: int = 0):
    """kv_a_proj_with_mqa with blocks of another size, or with blocks that begin some rows late."""
    def result(case):
        tensors, source = case.expected(), case.published.build().published
        for name in [n for n in tensors if n.endswith("kv_a_proj_with_mqa.weight")]:
            codes, scales = source[name], source[name + "_scale_inv"]
            above = np.concatenate([codes[:late], codes])
            tensors[name] = oracle.dequantize(above, np.concatenate([scales, scales[-1:]]), BF16, block)[len(codes[:late]):]
        return tensors
    return result


def rounded_once(case):
    tensors, source = case.expected(), case.published.build().published
    for name in [n for n in tensors if n.endswith("o_proj.weight")]:
        row, col = (np.arange(size) // 128 for size in source[name].shape)
        exact = source[name].astype(np.float64) * source[name + "_scale_inv"].astype(np.float64)[row[:, None], col]
        tensors[name] = rounded(exact)
    return tensors


def rounded(exact: np.ndarray) -> np.ndarray:
    """To bf16 in one step, ties to even; the values here are normal numbers."""
    fraction, exponent = np.frexp(exact)
    return np.ldexp(np.rint(fraction * 256) / 256, exponent).astype(F32).astype(BF16)


def halves_swapped(case):
    tensors = case.expected()
    for name in [n for n in tensors if n.endswith("embed_q.weight")]:
        other = name.replace("embed_q", "unembed_out")
        tensors[name], tensors[other] = tensors[other].swapaxes(1, 2), tensors[name].swapaxes(1, 2)
    return tensors


def with_prediction_layer(case):
    return mapping.apply(case.family.rules(case.published.config), case.published.build().values)


def with_scale(case):
    return case.expected() | {"model.layers.0.self_attn.q_proj.weight_scale": np.ones((256, 1), BF16)}


NORM = r"input_layernorm\.weight$"
up_first = mapping.rename(r"\.experts\.(\d+)\.(gate|up)_proj", lambda m: f".experts.{m[1]}.{ {'gate': 'up', 'up': 'gate'}[m[2]] }_proj")
MISTAKES = {
    "norms of the mlx layout without their one": ("qwen3_next", "mlx", changed(NORM, lambda t: t - BF16(1)), LOADS),
    "norms of the raw layout with a one": ("qwen3_next", "auto", changed(NORM, lambda t: t + BF16(1)), LOADS),
    "norms of the raw layout with a one, beside vision": ("qwen3_5_moe", "auto", changed(r"\.norm\.weight$", lambda t: t + t.dtype.type(1)), LOADS),
    "a gated norm with a one": ("qwen3_5", "mlx", changed(r"linear_attn\.norm\.weight$", lambda t: t + t.dtype.type(1)), LOADS),
    "convolutions of the mlx layout as they were": ("qwen3_next", "mlx", changed("conv1d", lambda t: t.swapaxes(1, 2)), REJECTS),
    "convolutions as they were, norms with a one": ("qwen3_5", "mlx", changed("conv1d", lambda t: t.swapaxes(1, 2)), LOADS),
    "gate and up swapped, stacked": ("qwen3_5_moe", "auto", changed(r"gate_up_proj$", swapped_halves(1)), LOADS),
    "gate and up swapped, transposed": ("qwen3_vl_moe", "auto", changed(r"gate_up_proj$", swapped_halves(2)), LOADS),
    "gate and up swapped, mlx": ("glm4_moe", "mlx", rebuilt(up_first, mapping.switch(mapping.GLU)), LOADS),
    "w2 and w3 swapped": ("minimax", "mlx", rebuilt(mapping.switch({"w1": "gate_proj", "w2": "up_proj", "w3": "down_proj"})), REJECTS),
    "w1 and w3 swapped": ("minimax", "mlx", rebuilt(mapping.switch({"w3": "gate_proj", "w2": "down_proj", "w1": "up_proj"})), LOADS),
    "experts in the order of the alphabet": ("glm4_moe, compressed-tensors, channel, F32, odd sizes", "mlx",
                                             changed("switch_mlp", lambda t: t[sorted(range(len(t)), key=str)]), LOADS),
    "experts stacked where they must not be": ("qwen3_moe", "auto", rebuilt(mapping.stacked()), REJECTS),
    "experts not stacked where they must be": ("qwen3_5_moe", "auto", rebuilt(), REJECTS),
    "experts not transposed": ("llama4", "auto", rebuilt(mapping.stacked()), REJECTS),
    "experts transposed twice": ("step3p5", "auto", changed(r"moe\.down_proj", lambda t: t.swapaxes(1, 2)), REJECTS),
    "kv_b_proj not split": ("deepseek_v3", "mlx", rebuilt(mapping.switch(mapping.GLU)), REPAIRS),
    "kv_b_proj split the other way round": ("deepseek_v3", "mlx", halves_swapped, LOADS),
    "heads of kv_b_proj in another order": ("mistral4", "mlx", changed("unembed_out", lambda t: t[::-1]), LOADS),
    "scale blocks of 80 rows": ("deepseek_v3", "auto", dequantized_with((80, 128)), LOADS),
    "scale blocks a row late": ("kimi_k2", "auto", dequantized_with((128, 128), late=1), LOADS),
    "products rounded once": ("deepseek_v3", "auto", rounded_once, LOADS),
    "a correction bias in bf16": ("deepseek_v3", "auto", changed("e_score_correction_bias", lambda t: t.astype(BF16)), LOADS),
    "the prediction layer kept": ("deepseek_v3", "mlx", with_prediction_layer, REJECTS),
    "a scale left": ("glm4_moe", "auto", with_scale, REJECTS),
    "a router under its old name": ("bailing_moe", "auto", renamed(r"mlp\.gate\.weight", "mlp.gate.wg.weight"), REJECTS),
    "projections of experts under each other's names": ("nemotron_h", "auto", renamed(r"experts\.0\.up_proj", "experts.0.gate_proj"), REJECTS),
    "tied names of the wrapper": ("ministral3", "auto", renamed(r"^language_model\.model", "model.model"), REJECTS),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_found(shelf, tmp_path, mistake):
    family, layout, make, reaction = MISTAKES[mistake]
    case = case_named(family, layout)
    source = shelf.source(case.published)
    directory = convert_naively(case, source, tmp_path / "mistaken", make(case))
    assert outcomes.output_differences(case, source, directory)
    if reaction == REJECTS:
        with pytest.raises(outcomes.LOADING_ERRORS):
            outcomes.mlx_lm_differences(case, directory)
    else:
        found = outcomes.mlx_lm_differences(case, directory)
        assert bool(found) == (reaction == LOADS), found


@pytest.mark.parametrize("family", ["glm4_moe", "nemotron_h"])
def test_a_stale_quantization_config_is_found(shelf, tmp_path, family):
    case = case_named(family, "auto")
    source = shelf.source(case.published)
    directory = convert_naively(case, source, tmp_path / "stale")
    config = json.loads((directory / "config.json").read_text())
    config["quantization_config"] = case.published.variant.dialect.config
    (directory / "config.json").write_text(json.dumps(config))
    assert outcomes.output_differences(case, source, directory) == ["config.json: differs in a value or in key order"]
    with pytest.raises(ValueError, match="quant"):
        outcomes.mlx_lm_differences(case, directory)


def test_a_stale_file_is_found(shelf, tmp_path):
    case = case_named("nemotron_h", "auto")
    source = shelf.source(case.published)
    directory = convert_naively(case, source, tmp_path / "stale")
    (directory / oracle.QUANTIZATION).write_text((source / oracle.QUANTIZATION).read_text())
    assert outcomes.output_differences(case, source, directory) == [f"{oracle.QUANTIZATION}: copied"]


def test_the_wrong_format_is_found(shelf, tmp_path):
    auto, mlx = case_named("qwen3_moe", "auto"), case_named("qwen3_moe", "mlx")
    directory = convert_naively(auto, shelf.source(auto.published), tmp_path / "mlx", mlx.expected())
    assert outcomes.output_differences(mlx, shelf.source(mlx.published), directory) == [
        "the shards' format is {'pt'}, want mlx", "config.json: differs in a value or in key order"]
