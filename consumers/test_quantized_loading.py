"""mlx-lm and mlx-vlm strictly load what metalcast quantizes, and compute the same as with
mlx_lm.convert's output."""

import mlx.core as mx
import mlx.nn as nn
import mlx_vlm.utils
import numpy as np
import pytest
from mlx.utils import tree_flatten
from mlx_lm.utils import load_model
from quantized_compare import tensors
from quantized_reference import AFFINE, DEFAULT, FORMATS, Format, nightly, workshop  # noqa: F401, a fixture
from quantized_sources import NAMES, Sample

PROMPTS = mx.array([[3, 1, 4, 1, 5, 9, 2, 6], [2, 7, 1, 8, 2, 8, 1, 8]])
IN_BRIEF = [DEFAULT, Format("affine", 3, 128), Format("mxfp4"), Format("mxfp8"), Format("nvfp4")]
# whose attention keeps kv_b_proj whole there; mlx_lm.convert's output it rejects in the same way
REJECTED_BY_MLX_VLM = ("mistral4",)


def quantized_modules(model: nn.Module) -> set[str]:
    return {path for path, module in model.named_modules() if "scales" in module}


def logits(directory) -> np.ndarray:
    model, _ = load_model(directory, strict=True)
    model.set_dtype(mx.float32)  # the only type in which MLX multiplies by expert on a CPU
    return np.array(model(PROMPTS))


@pytest.mark.parametrize("form", nightly(FORMATS, *IN_BRIEF), ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_mlx_lm_loads_it(workshop, name, form):
    """Every tensor becomes a parameter, and every packed one a quantized module's."""
    directory = workshop.ours(Sample(name), *form.flags())
    model, _ = load_model(directory, strict=True)
    written = tensors(directory)
    assert {path for path, _ in tree_flatten(model.parameters())} == set(written)
    assert quantized_modules(model) == {path.removesuffix(".scales") for path in written if path.endswith(".scales")}


@pytest.mark.parametrize("form", nightly(FORMATS, *IN_BRIEF), ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_mlx_vlm_loads_it(workshop, name, form):
    directory = workshop.ours(Sample(name), *form.flags())
    if name not in REJECTED_BY_MLX_VLM:
        model = mlx_vlm.utils.load_model(directory)
        assert len(quantized_modules(model)) == sum(path.endswith(".scales") for path in tensors(directory))
        return
    for each in (directory, workshop.theirs(workshop.dequantized(Sample(name)), form)):
        with pytest.raises(ValueError, match=r"Received \d+ parameters not in model"):
            mlx_vlm.utils.load_model(each)


@pytest.mark.parametrize("form", [DEFAULT, Format("mxfp8"), Format("nvfp4")], ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_logits_are_those_of_mlx_lms_output(workshop, name, form):
    sample = Sample(name)
    got = logits(workshop.ours(sample, *form.flags()))
    assert np.array_equal(got, logits(workshop.theirs(workshop.dequantized(sample), form)))
    assert np.isfinite(got).all()
    assert np.abs(got[0] - got[1]).max() > 1


@pytest.mark.parametrize("name", NAMES)
def test_more_bits_come_nearer_to_the_model(workshop, name):
    exact = logits(workshop.dequantized(Sample(name)))
    distance = {bits: np.abs(logits(workshop.ours(Sample(name), *Format("affine", bits, 32).flags())) - exact).mean() for bits in (2, 4, 8)}
    assert distance[8] < distance[4] < distance[2]


MIXED = {
    "a recipe": ("--quant-predicate", "mixed_3_6"),
    "modes mixed": ("--q-override", "*_proj=::mxfp8", "--q-override", "*o_proj=::nvfp4", "--q-override", "*embed_tokens=6:32"),
    "some not quantized": ("--q-override", "*embed_tokens=none", "--q-override", "*layers.1.*=none"),
    "nothing quantized": ("--q-override", "*=none"),
}


@pytest.mark.parametrize("loads", [lambda path: load_model(path, strict=True)[0], mlx_vlm.utils.load_model], ids=["mlx-lm", "mlx-vlm"])
@pytest.mark.parametrize("case", MIXED)
@pytest.mark.parametrize("name", nightly([name for name in NAMES if name not in REJECTED_BY_MLX_VLM], "qwen3_5_moe", "qwen3", "deepseek_v3"))
def test_mixed_formats_load(workshop, name, case, loads):
    directory = workshop.ours(Sample(name, "deep"), *MIXED[case])
    model, written = loads(directory), tensors(directory)
    assert len(quantized_modules(model)) == sum(path.endswith(".scales") for path in written)


@pytest.mark.parametrize(("bits", "group"), [(bits, group) for bits, group in AFFINE if group < 128])
def test_an_override_reaches_modules_that_the_global_groups_do_not_divide(workshop, bits, group):
    """mlx_lm.convert cannot do this, because it checks the global group size first. The module's
    tensors equal mx.quantize's, and it loads."""
    sample, path = Sample("qwen3"), "model.layers.0.mlp.down_proj"  # rows of 192
    directory = workshop.ours(sample, "--q-group-size", "128", "--q-override", f"{path}={bits}:{group}")
    weight = load_model(workshop.dequantized(sample))[0].model.layers[0].mlp.down_proj.weight
    written = mx.load(str(directory / "model.safetensors"))
    for part, want in zip(("weight", "scales", "biases"), mx.quantize(weight, group_size=group, bits=bits), strict=True):
        assert mx.array_equal(written[f"{path}.{part}"], want)
    model, _ = load_model(directory, strict=True)
    assert path in quantized_modules(model)
    assert "model.layers.1.mlp.down_proj" not in quantized_modules(model)
