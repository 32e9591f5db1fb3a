"""What cannot be quantized is refused, with an exit status and a message that names it, and nothing
is written."""

import ml_dtypes
import numpy as np
import pytest
import sources
from quantized_reference import workshop  # noqa: F401, a fixture
from quantized_sources import Sample

USAGE, CORRUPT, UNSUPPORTED = 2, 3, 4
WRONG = {
    "7 bits": (("--q-bits", "7"), USAGE, "affine: 7 bits, MLX has 1, 2, 3, 4, 5, 6 and 8"),
    "1 bit": (("--q-bits", "1"), USAGE, "1 bit: only MLX 0.32.4 and later load it"),
    "groups of 16": (("--q-group-size", "16"), USAGE, "affine: group size 16, MLX has 32, 64 and 128"),
    "groups of less than nothing": (("--q-group-size", "-64"), USAGE, "group size -64"),
    "mxfp4 in 8 bits": (("--q-mode", "mxfp4", "--q-bits", "8"), USAGE, "mxfp4: 8 bits, MLX has 4"),
    "mxfp8 in groups of 64": (("--q-mode", "mxfp8", "--q-group-size", "64"), USAGE, "mxfp8: group size 64, MLX has 32"),
    "nvfp4 in groups of 32": (("--q-mode", "nvfp4", "--q-group-size", "32"), USAGE, "nvfp4: group size 32, MLX has 16"),
    "an unknown mode": (("--q-mode", "int4"), USAGE, '"int4" is not one of affine, mxfp4, mxfp8, nvfp4'),
    "an unknown recipe": (("--quant-predicate", "mixed_9"), USAGE, '"mixed_9" is not one of mixed_2_6, mixed_3_4, mixed_3_6, mixed_4_6'),
    "a recipe in another mode": (("--quant-predicate", "mixed_2_6", "--q-mode", "mxfp4"), USAGE, "recipes are affine, --q-mode is mxfp4"),
    "an unknown profile": (("--q-profile", "cuda"), USAGE, '"cuda" is neither metal nor cpu'),
    "another layout": (("--layout", "stacked"), USAGE, "quantized weights have the MLX-native layout, not stacked"),
    "a prediction head": (("--keep-mtp",), UNSUPPORTED, "--keep-mtp"),
    "an override that fits nothing": (("--q-override", "*.q_porj=8"), USAGE, "--q-override *.q_porj: no module fits"),
    "an override of a norm": (("--q-override", "model.norm=8"), USAGE, "--q-override model.norm: no module fits"),
    "an override in 7 bits": (("--q-override", "*down_proj=7"), USAGE, "--q-override *down_proj=7: affine: 7 bits"),
    "an override without a format": (("--q-override", "*down_proj"), USAGE, "the form is PATTERN=bits[:group[:mode]], or PATTERN=none"),
    "an override in an unknown mode": (("--q-override", "*down_proj=4:32:int4"), USAGE, '"int4" is not one of affine'),
    "an override whose groups do not divide": (("--q-override", "*down_proj=4:128"), UNSUPPORTED, "rows of 192 elements are not whole groups of 128"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_asked_for(workshop, metalcast, tmp_path, case):
    flags, status, message = WRONG[case]
    done = metalcast.run("convert", workshop.source(Sample("qwen3")), tmp_path / "out", "-q", *flags, status=status)
    assert message in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_flags_without_q(workshop, metalcast, tmp_path):
    done = metalcast.run("convert", workshop.source(Sample("qwen3")), tmp_path / "out", "--q-bits", "4", status=USAGE)
    assert "go with -q" in done.stderr


def test_a_family_without_an_mlx_form(metalcast, tmp_path):
    metalcast.run("synth", tmp_path / "in", "--family", "qwen3_vl_moe")
    done = metalcast.run("convert", tmp_path / "in", tmp_path / "out", "-q", status=UNSUPPORTED)
    assert "mlx_lm.convert" in done.stderr  # the hint shows how to do it in two steps


def test_what_is_quantized_already(workshop, metalcast, tmp_path):
    done = metalcast.run("convert", workshop.ours(Sample("qwen3")), tmp_path / "out", "-q", status=UNSUPPORTED)
    assert "quantized" in done.stderr
    assert not (tmp_path / "out").exists()


NAN = float("nan")
VALUES = {
    "a NaN": ("bfloat16", ".weight", NAN, (), "are NaN or infinite"),
    "an infinity": ("bfloat16", ".weight", -np.inf, (), "are NaN or infinite"),
    "a NaN code": ("", ".weight", ml_dtypes.float8_e4m3fn(NAN), (), "are NaN or infinite"),
    "an infinite scale": ("", ".weight_scale_inv", np.inf, (), "scale that is NaN or infinite"),
    "a NaN, kept": ("bfloat16", ".weight", NAN, ("--nan-policy", "keep"), "are NaN or infinite"),
    "a value too large for float16": ("bfloat16", ".weight", 1e6, ("--dtype", "float16"), "too large for float16"),
    "a value too large for bfloat16": ("float32", ".weight", 3.4e38, ("--dtype", "bfloat16"), "too large for bfloat16"),
}


@pytest.mark.parametrize("profile", ["cpu", "metal"])
@pytest.mark.parametrize("mode", ["affine", "mxfp4", "mxfp8", "nvfp4"])
@pytest.mark.parametrize("case", VALUES)
def test_values(metalcast, tmp_path, case, mode, profile):
    """The message names the tensor. mlx_lm would write codes for them."""
    plain, suffix, value, flags, message = VALUES[case]
    sample, name = Sample("qwen3", plain=plain), "model.layers.1.mlp.gate_proj" + suffix
    tensors = {key: tensor.copy() for key, tensor in sample.tensors().items()}
    tensors[name][-1, -1] = value
    sources.write(tensors, sample.config(), {}, tmp_path / "in")
    done = metalcast.run("convert", tmp_path / "in", tmp_path / "out", "-q", "--q-mode", mode, "--q-profile", profile, *flags, status=CORRUPT)
    assert name in done.stderr
    assert message in done.stderr
    assert not (tmp_path / "out").exists()
