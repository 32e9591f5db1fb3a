"""The oracle and its data distinguish right from wrong: every mistake below is detected."""

import json
from fractions import Fraction

import ml_dtypes
import numpy as np
import oracle
import pytest
from checkpoints import write
from weights import BF16, F32, FP8, ODD, Builder, Spec

PREFIX = "model.language_model.layers.0.mlp.experts."


def rounded(x: Fraction, bits: int) -> Fraction:
    """The nearest number with that many significant bits, ties to even."""
    exponent = x.numerator.bit_length() - x.denominator.bit_length()
    exponent -= abs(x) < Fraction(2) ** exponent
    unit = Fraction(2) ** (exponent - bits + 1)
    return round(x / unit) * unit


def test_products_are_rounded_to_float32_and_then_to_bfloat16():
    codes = np.arange(1, 0x7F, dtype=np.uint8).view(FP8)[None]
    for scale in np.random.default_rng(3).uniform(1e-3, 1, 50).astype(F32):
        got = oracle.dequantize(codes, np.array([[scale]]), BF16)[0]
        for code, value in zip(codes[0], got, strict=True):
            exact = Fraction(float(code)) * Fraction(float(scale))
            assert Fraction(float(value)) == rounded(rounded(exact, 24), 8)


def test_data_tells_one_rounding_from_two():
    tensors = Builder(Spec(scale=F32, **ODD)).build()
    for name in [n for n in tensors if n.endswith("_scale_inv")]:
        for scale in tensors[name].ravel():
            exact = Fraction(1.875) * Fraction(float(scale))
            assert rounded(exact, 8) != rounded(rounded(exact, 24), 8), name
        assert 1.875 in np.abs(tensors[name.removesuffix("_scale_inv")].astype(F32)), name


@pytest.mark.parametrize("axis", [0, 1], ids=["rows", "columns"])
@pytest.mark.parametrize("dims", [{}, ODD], ids=["whole blocks", "partial blocks"])
def test_data_tells_scale_blocks_apart(dims, axis):
    tensors = Builder(Spec(**dims)).build()
    different = total = 0
    for name in [n for n in tensors if n.endswith("_scale_inv") and tensors[n].shape[axis] > 1]:
        weight = name.removesuffix("_scale_inv")
        right = oracle.dequantize(tensors[weight], tensors[name], BF16)
        wrong = oracle.dequantize(tensors[weight], np.roll(tensors[name], 1, axis), BF16)
        different, total = different + oracle.differing(right, wrong), total + right.size
    assert different > 0.9 * total > 0


def test_data_has_every_code_but_the_nans():
    codes = np.concatenate([t.view(np.uint8).ravel() for t in Builder(Spec()).build().values() if t.dtype == FP8])
    assert set(codes.tolist()) == set(range(256)) - {0x7F, 0xFF}


def flip_lowest_bit(t):
    t[PREFIX + "down_proj"].view(np.uint16)[3, 5, 7] ^= 1


def swap_gate_and_up(t):
    gate_up = t[PREFIX + "gate_up_proj"]
    t[PREFIX + "gate_up_proj"] = np.roll(gate_up, gate_up.shape[1] // 2, axis=1)


def interleave_gate_and_up(t):
    gate, up = np.split(t[PREFIX + "gate_up_proj"], 2, axis=1)
    t[PREFIX + "gate_up_proj"] = np.stack([gate, up], 2).reshape(len(gate), -1, gate.shape[2])


def swap_two_experts(t):
    t[PREFIX + "down_proj"] = t[PREFIX + "down_proj"][[1, 0, 2, 3]]


def lose_a_sign_of_zero(t):
    t[PREFIX + "down_proj"] = t[PREFIX + "down_proj"] + BF16(0)


def transpose_the_experts(t):
    t[PREFIX + "down_proj"] = t[PREFIX + "down_proj"].swapaxes(1, 2)


def lose_a_tensor(t):
    del t[PREFIX + "down_proj"]


def keep_a_scale(t):
    t[PREFIX + "down_proj_scale_inv"] = np.ones((4, 1, 1), F32)


def change_the_type(t):
    t[PREFIX + "down_proj"] = t[PREFIX + "down_proj"].view(np.float16)


MISTAKES = [flip_lowest_bit, swap_gate_and_up, interleave_gate_and_up, swap_two_experts, lose_a_sign_of_zero,
            transpose_the_experts, lose_a_tensor, keep_a_scale, change_the_type]


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return write(Spec(intermediate=136), tmp_path_factory.mktemp("oracle") / "source")


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda f: f.__name__)
def test_comparison_finds_a_mistake_and_names_only_it(source, tmp_path, mistake):
    tensors = oracle.converted(oracle.read_checkpoint(source))
    mistake(tensors)
    config = oracle.converted_config(json.loads((source / "config.json").read_text()))
    oracle.write_checkpoint({n: np.ascontiguousarray(t) for n, t in tensors.items()}, config, source, tmp_path / "out")
    (found,) = oracle.differences(source, tmp_path / "out")
    assert found.startswith(PREFIX)


def test_comparison_finds_nothing_in_the_oracles_own_output(source, tmp_path):
    assert oracle.differences(source, oracle.convert(source, tmp_path / "out")) == []


@pytest.mark.parametrize("damage", ["quantization", "order", "dtype", "total", "tokenizer"])
def test_comparison_finds_a_damaged_file(source, tmp_path, damage):
    out = oracle.convert(source, tmp_path / "out")
    config = json.loads((out / "config.json").read_text())
    if damage == "quantization":
        config["text_config"]["quantization_config"] = {"quant_method": "fp8"}
    if damage == "order":
        config["architectures"] = config.pop("architectures")
    if damage == "dtype":
        config["text_config"]["dtype"] = "float16"
    if damage == "total":
        text = (out / oracle.INDEX).read_text()
        (out / oracle.INDEX).write_text(text.replace('"total_size": ', '"total_size": 1'))
    if damage == "tokenizer":
        (out / "tokenizer.json").unlink()
    (out / "config.json").write_text(json.dumps(config))
    assert len(oracle.differences(source, out)) == 1


def test_reader_agrees_with_the_safetensors_library(source):
    from safetensors import safe_open
    tensors = oracle.read_checkpoint(source)
    with safe_open(source / "model.safetensors", "numpy") as file:
        names = [n for n in file.keys() if tensors[n].dtype in (ml_dtypes.bfloat16, F32)]
        assert names
        assert all(oracle.differing(file.get_tensor(n), tensors[n]) == 0 for n in names)
