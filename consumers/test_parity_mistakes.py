"""The vectors distinguish right from wrong: a converter with a mistake would produce a different
file, in these cases."""

import json
from fractions import Fraction

import parity_exact as exact
import parity_vectors
import pytest
from test_parity_vectors import VECTORS

right = exact.dequantized


def sign(to):
    return 1 << (8 * to.bytes - 1)


def rounded_once(code, factor, to):
    return to.encode(exact.product(exact.e4m3fn(code), factor))


def cut_off(code, factor, to):
    return right(code, factor, exact.F32) >> 16 if to is exact.BF16 else right(code, factor, to)


def subnormal_results_flushed(code, factor, to):
    word = right(code, factor, to)
    return word if word & to.infinity else word & sign(to)


def subnormal_codes_taken_for_zero(code, factor, to):
    return right(code if code & 0x78 else code & 0x80, factor, to)


def minus_zero_lost(code, factor, to):
    word = right(code, factor, to)
    return 0 if word == sign(to) else word


def saturated(code, factor, to):
    word = right(code, factor, to)
    return word - 1 if word & ~sign(to) == to.infinity else word


def nan_read_as_480(code, factor, to):
    return to.encode(exact.F32.round(exact.product((code > 127, Fraction(480)), factor))) if code & 127 == 127 else right(code, factor, to)


def bits_of_another_nan(code, factor, to):
    return right(code, factor, to) | (sign(to) if code == 0xFF else 0)


MISTAKES = {
    rounded_once: {"rounded twice, to BF16", "rounded twice, to F16"},
    cut_off: {"every code, F32 scales", "rounded twice, to BF16", "per tensor"},
    subnormal_results_flushed: {"every code, F32 scales", "F32 scales: ends of the range", "BF16 scales", "F16 scales", "MXFP8: groups of 32, E8M0 scales"},
    subnormal_codes_taken_for_zero: {"every code, F32 scales", "BF16 scales", "F16 scales", "MXFP8: groups of 32, E8M0 scales"},
    minus_zero_lost: {"every code, F32 scales", "BF16 scales", "F16 scales", "MXFP8: groups of 32, E8M0 scales"},
    saturated: {"F32 scales: ends of the range", "BF16 scales", "F16 scales", "MXFP8: groups of 32, E8M0 scales"},
    nan_read_as_480: {"NaN codes"},
    bits_of_another_nan: {"NaN codes"},
}


ACROSS = [set(), {"MXFP8: groups of 32, E8M0 scales", "groups of 128 in a row", "divisors, 128x128"}]  # more than one scale across


def shown_by(part) -> set[str]:
    """The cases that a mistake changes."""
    published = {case["name"]: case for case in json.loads(VECTORS.read_text())["cases"]}
    return {case["name"] for case in part() if case["results"] != published[case["name"]]["results"]}


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda f: f.__name__)
def test_mistakes_in_elements_show(monkeypatch, mistake):
    monkeypatch.setattr(parity_vectors, "dequantized", mistake)
    assert shown_by(parity_vectors.dequantizing) >= MISTAKES[mistake]


def test_mistakes_in_the_use_of_scales_show(monkeypatch):
    monkeypatch.setattr(parity_vectors, "reciprocal", lambda factor: factor)
    assert shown_by(parity_vectors.dequantizing) == {"divisors, 128x128", "divisors, ends of the range", "divisors, BF16"}
    monkeypatch.setattr(parity_vectors, "reciprocal", lambda factor: (factor[0], 1 / factor[1]))
    # a quotient that is not rounded
    assert "divisors, 128x128" in shown_by(parity_vectors.dequantizing)


@pytest.mark.parametrize("axis", [0, 1], ids=["rows", "columns"])
def test_mistakes_in_the_place_of_scales_show(monkeypatch, axis):
    whole = parity_vectors.apply

    def one_early(codes, scales, scale_type, block, *rest):
        """Blocks are a row or a column too small; beyond the grid its last scale is used."""
        smaller = [max(n - (i == axis), 1) for i, n in enumerate(block)]
        longer = [[*row, *row[-1:] * len(codes[0])] for row in [*scales, *scales[-1:] * len(codes)]]
        return whole(codes, longer, scale_type, smaller, *rest)

    monkeypatch.setattr(parity_vectors, "apply", one_early)
    assert shown_by(parity_vectors.dequantizing) == {"blocks of 128x128, partial at both edges", "blocks of 32x32, E8M0 scales"} | ACROSS[axis]


@pytest.mark.parametrize("mode", ["affine", "mxfp4", "nvfp4", "mxfp8"])
def test_profiles_taken_for_each_other_show(mode):
    cases = [case for case in json.loads(VECTORS.read_text())["cases"] if case["op"] == "quantize"]
    pairs = [(metal, cpu) for case in cases for metal, cpu in zip(case["results"][::2], case["results"][1::2], strict=True) if metal["mode"] == mode]
    assert all((metal["profile"], cpu["profile"]) == ("metal", "cpu") for metal, cpu in pairs)
    different = [metal for metal, cpu in pairs if metal | {"profile": "cpu"} != cpu]
    assert len(different) >= (3 if mode != "affine" else 0.9 * len(pairs))
