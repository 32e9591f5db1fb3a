"""Makes docs/parity-vectors/vectors.json: inputs, and the bits that parity_exact.py computes for a
conversion.

    .venv/bin/python consumers/parity_vectors.py docs/parity-vectors/vectors.json

Random inputs come from a generator of its own, so that every Python makes the same file. Whoever
changes a case or the format raises VERSION; test_parity_vectors.py holds the digest of what a
version contains.
"""

import json
import sys
from collections.abc import Callable, Iterator
from fractions import Fraction
from itertools import groupby
from pathlib import Path

from parity_exact import (BF16, E2M1, E4M3, F16, F32, INFINITE, TYPES, Number, Type, decode, dequantized, packed, plus_one, quantized,
                          reciprocal)

VERSION = 1
SIZES = {"F8_E4M3": 1, "F8_E8M0": 1, "BF16": 2, "F16": 2, "F32": 4}
FLOATS = list(TYPES)
NAN_CODES = (0x7F, 0xFF)
CODES = [c for c in range(256) if c not in NAN_CODES]
FEW = [0x00, 0x80, 0x01, 0x81, 0x02, 0x07, 0x08, 0x0F, 0x10, 0x17, 0x33, 0x38, 0xB8, 0x3B, 0x3C, 0x4D, 0x55, 0x69, 0x6E, 0x71, 0x77, 0x7D, 0x7E, 0xFE]
AFFINE = [(bits, group) for bits in (2, 3, 4, 5, 6, 8) for group in (32, 64, 128)]
FLOATING = {"mxfp4": (4, 32), "mxfp8": (8, 32), "nvfp4": (4, 16)}
Words = list[list[int]]  # a matrix in bits


class Random:
    """Knuth's MMIX generator, of which only the upper bits are used."""

    def __init__(self, seed: int):
        self.state = seed

    def below(self, n: int) -> int:
        self.state = (self.state * 6364136223846793005 + 1442695040888963407) % (1 << 64)
        return (self.state >> 32) * n >> 32

    def uniform(self, low: float, high: float) -> float:
        return low + (high - low) * self.below(1 << 24) / (1 << 24)

    def normal(self, deviation: float) -> float:
        """Nearly: the sum of twelve uniform numbers."""
        return deviation * (sum(self.below(1 << 20) for _ in range(12)) / (1 << 20) - 6)


def rows(matrix: Words, size: int) -> list:
    """[[times, hex], ...]: equal rows that follow each other are one entry."""
    lines = [b"".join(word.to_bytes(size, "little") for word in row).hex() for row in matrix]
    return [[len(list(same)), line] for line, same in groupby(lines)]


def matrix(words: Words, dtype: str, **more) -> dict:
    return {"dtype": dtype, "shape": [len(words), len(words[0])], **more, "data": rows(words, SIZES[dtype])}


def fp8(name: str, about: str, codes: Words, scales: Words, scale_type: str, block: tuple[int, int], divide: bool = False,
        to: list[str] = FLOATS) -> dict:
    results = [{"dtype": dtype, "values": rows(apply(codes, scales, scale_type, block, divide, TYPES[dtype]), SIZES[dtype])} for dtype in to]
    return {"name": name, "about": about, "op": "dequantize", "source": matrix(codes, "F8_E4M3"),
            "scales": matrix(scales, scale_type, block=list(block), use="divide" if divide else "multiply"), "results": results}


def apply(codes: Words, scales: Words, scale_type: str, block: tuple[int, int], divide: bool, to: Type) -> Words:
    factors = [[decode(scale_type, word) for word in row] for row in scales]
    if divide:
        factors = [[reciprocal(factor) for factor in row] for row in factors]
    known: dict[tuple, int] = {}

    def one(code: int, factor: Number) -> int:
        if (code, factor) not in known:
            known[code, factor] = dequantized(code, factor, to)
        return known[code, factor]

    return [[one(code, factors[r // block[0]][c // block[1]]) for c, code in enumerate(row)] for r, row in enumerate(codes)]


def twice_rounded(to: Type) -> list[int]:
    """float32 scales between 1 and 2 whose product with one of the codes 1.125 to 1.875 is next to
    a tie of the type: float32 makes it the tie."""
    found, keep = [], to.mantissa + 1
    for top in range(1 << (keep - 1), 1 << keep, 1 + (1 << keep >> 6)):
        tie = top << (28 - keep) | 1 << (27 - keep)
        found += [F32.encode((False, Fraction((tie + d) // m, 1 << 23))) for m in (9, 11, 13, 15) for d in range(-7, 8)
                  if d and (tie + d) % m == 0 and (tie + d) // m >> 23 == 1]
    return found[:6]


def words(kind: Type, *numbers: float) -> list[int]:
    """Numbers rounded to a type."""
    return [kind.encode(number(x)) for x in numbers]


def number(x: float) -> Number:
    negative = str(x).startswith("-")
    return (negative, None) if x != x else (negative, INFINITE if abs(x) == INFINITE else abs(Fraction(x)))


def grid(rng: Random, shape: tuple[int, int], kind: Type, low: float = 1e-4, high: float = 1e-2) -> Words:
    return [words(kind, *[rng.uniform(low, high) for _ in range(shape[1])]) for _ in range(shape[0])]


def dequantizing() -> Iterator[dict]:
    rng = Random(1)

    def random_codes(height: int, width: int) -> Words:
        return [[CODES[rng.below(len(CODES))] for _ in range(width)] for _ in range(height)]

    yield fp8("every code, F32 scales", "one, an ordinary scale, and one whose float16 results are subnormal and bfloat16's too near a tie", [CODES] * 3,
              [[w] for w in words(F32, 1, 0.0123, 3.1e-7)], "F32", (1, len(CODES)))
    yield fp8("NaN codes", "0x7F and 0xFF, whatever the scale; every NaN is the canonical one", [[0x7F, 0xFF, 0x7E, 0xFE, 0x00]] * 2,
              [[w] for w in words(F32, 1, -0.5)], "F32", (1, 5))
    yield fp8("scales that are no numbers", "NaN, infinite and zero scales", [[0x00, 0x80, 0x01, 0xB8, 0x7E, 0xFE]] * 5,
              [[w] for w in words(F32, float("nan"), INFINITE, -INFINITE, 0.0, -0.0)], "F32", (1, 6))
    yield fp8("F32 scales: ends of the range", "subnormal, least normal, overflow of float16, of bfloat16 by rounding, of float32; negative", [FEW] * 10,
              [[w] for w in [0x00000001, 0x00400000, 0x007FFFFF, 0x00800000, 0x33000000, 0x43000000, 0x7AFFFFFF, 0x7B124925, 0x7F7FFFFF, 0xBFA00000]],
              "F32", (1, len(FEW)))
    for dtype in ("BF16", "F16"):
        scales = twice_rounded(TYPES[dtype])
        yield fp8(f"rounded twice, to {dtype}", "the product rounded to float32 is a tie of the type; rounded at once it would go the other way",
                  [[0x39, 0x3B, 0x3D, 0x3F, 0xB9, 0xBB, 0xBD, 0xBF]] * len(scales), [[w] for w in scales], "F32", (1, 8), to=[dtype])
    yield fp8("BF16 scales", "ordinary, subnormal, least normal, greatest, negative, infinite", [FEW] * 9,
              [[w] for w in [0x3C4A, 0x3F80, 0x0001, 0x0080, 0x7F7F, 0xBE33, 0x7F80, 0x4300, 0x3301]], "BF16", (1, len(FEW)))
    yield fp8("F16 scales", "ordinary, subnormal, least normal, greatest, negative, NaN", [FEW] * 8,
              [[w] for w in [0x2255, 0x3C00, 0x0001, 0x0400, 0x7BFF, 0xB199, 0x7E01, 0x5801]], "F16", (1, len(FEW)))
    yield fp8("MXFP8: groups of 32, E8M0 scales", "2^-127, which is subnormal in float32, to 2^127 and NaN", [(FEW + FEW[:8]) * 6] * 2,
              [[0, 1, 2, 105, 112, 126], [127, 128, 140, 247, 254, 255]], "F8_E8M0", (1, 32))
    a, b, c, d, e = random_codes(5, 150)
    yield fp8("blocks of 128x128, partial at both edges", "DeepSeek's and Qwen's: scale[row // 128, column // 128]", [a] * 126 + [b, c, d, e],
              grid(rng, (2, 2), F32), "F32", (128, 128))
    yield fp8("blocks of 128x128, one partial", "a matrix smaller than its block", random_codes(3, 5), grid(rng, (1, 1), BF16), "BF16", (128, 128))
    yield fp8("blocks of 32x32, E8M0 scales", "partial at both edges", [a[:40]] * 31 + [b[:40], c[:40], d[:40]], [[121, 118], [119, 120]], "F8_E8M0", (32, 32), to=["BF16", "F32"])
    yield fp8("groups of 128 in a row", "the last one partial", random_codes(3, 140), grid(rng, (3, 2), F32), "F32", (1, 128), to=["BF16"])
    yield fp8("per channel", "compressed-tensors' strategy channel: a scale for each row", random_codes(4, 21), grid(rng, (4, 1), BF16), "BF16", (1, 21))
    yield fp8("per tensor", "a scale for the matrix", random_codes(3, 17), grid(rng, (1, 1), F32), "F32", (3, 17))
    yield fp8("divisors, 128x128", "what some publish as scales are their reciprocals: 1/scale is rounded to float32, then multiplied", random_codes(3, 131),
              [words(F32, 300.7, 8123.3)], "F32", (128, 128), divide=True)
    yield fp8("divisors, ends of the range", "reciprocals that are subnormal, inexact, exact, negative", [FEW] * 6,
              [[w] for w in [0x3F800000, 0x40400000, 0x7F7FFFFF, 0x7E800001, 0x3E000001, 0xC1200000]], "F32", (1, len(FEW)), divide=True)
    yield fp8("divisors, BF16", "per channel", random_codes(4, 24), grid(rng, (4, 1), BF16, 50, 9000), "BF16", (1, 24), divide=True)


def edges(kind: Type) -> Iterator[int]:
    """Patterns of a type where narrower ones round, end or become subnormal."""
    yield from (0, 1, 2, kind.infinity, kind.infinity - 1, kind.infinity | 1, kind.infinity | 1 << (kind.mantissa - 1))
    for other in (BF16, F16, F32):
        if other.mantissa >= kind.mantissa:
            continue
        for word in (0, 1, 2, 0x17, (1 << other.mantissa) - 1, 1 << other.mantissa, words(other, 1.5)[0], words(other, 3.1415927)[0], other.infinity - 1):
            below, above = other.finite(word), other.finite(word + 1)
            tie = kind.ordinal((below + above) / 2)
            yield from (kind.ordinal(below), tie - 1, tie, tie + 1)


def casting() -> Iterator[dict]:
    for source, kind in TYPES.items():
        patterns = sorted({w for w in edges(kind) if 0 <= w < 1 << (8 * kind.bytes - 1)} | set(words(kind, 0.1, 0.02, 65504, 65519, 65520, 1e-8, 6e-8, 1e-41)))
        both = [patterns, [w | 1 << (8 * kind.bytes - 1) for w in patterns]]
        yield {"name": f"cast from {source}", "about": "to nearest, ties to even; NaN becomes canonical", "op": "cast", "source": matrix(both, source),
               "results": [{"dtype": to, "values": rows([[TYPES[to].encode(kind.decode(w)) for w in row] for row in both], SIZES[to])}
                           for to in FLOATS if to != source]}


def adding_one() -> Iterator[dict]:
    for source, kind in TYPES.items():
        unit = 2.0 ** -kind.mantissa
        line = words(kind, 0.0, -0.0, 1.0, -1.0, -2.0, 0.1, -0.3, unit / 2, unit * 0.75, 1.5 * unit, -unit / 4, -unit / 8, 1 / unit, 2 / unit, 1e-30, 300.5) + [
            kind.infinity, kind.infinity - 1, kind.infinity | 3]
        yield {"name": f"norm weights plus one, {source}", "about": "MLX keeps some norms as 1 + weight: the sum in float32, rounded to the type; -1 gives +0",
               "op": "add_one", "source": matrix([line], source),
               "results": [{"dtype": source, "values": rows([[plus_one(kind.decode(w), kind) for w in line]], SIZES[source])}]}


Kind = Callable[[Random, int], list[float]]  # so many numbers of a group


def ordinary(rng: Random, n: int) -> list[float]:
    return [rng.normal(0.02) for _ in range(n)]


def affine_ties(bits: int) -> Kind:
    """Ties between codes, with a scale that is a power of two."""
    def kind(rng: Random, n: int) -> list[float]:
        most = (1 << bits) - 1
        zero, unit = (most + 1) // 2, 2.0 ** -6
        inner = [(rng.below(2 * most + 1) / 2 - zero) * unit for _ in range(n - 2)]
        return [-zero * unit, *inner, (most - zero) * unit]
    return kind


def e2m1_ties(rng: Random, n: int) -> list[float]:
    ties = [float(a + b) / 2 for a, b in zip(E2M1, E2M1[1:])]
    return [6.0 / 8] + [(ties * n)[i] * (-1 if i // len(ties) % 2 else 1) / 8 for i in range(n - 1)]


def e4m3_ties(rng: Random, n: int) -> list[float]:
    at = [40 + rng.below(86) for _ in range(n - 1)]
    return [448.0] + [float(E4M3.finite(c) + E4M3.finite(c + 1)) / 2 * (1 - 2 * rng.below(2)) for c in at]


def zeros(rng: Random, n: int) -> list[float]:
    return [-0.0 if i % 3 == 1 else 0.0 for i in range(n)]


def negative(rng: Random, n: int) -> list[float]:
    return [-0.2 - abs(x) for x in ordinary(rng, n)]


def positive(rng: Random, n: int) -> list[float]:
    return [0.3 + abs(x) for x in ordinary(rng, n)]


def equal(rng: Random, n: int) -> list[float]:
    return [-0.0173] * n


def outlier(rng: Random, n: int) -> list[float]:
    return [*ordinary(rng, n - 1), 31.7]


def tiny(rng: Random, n: int) -> list[float]:
    """Ranges near MLX's smallest affine scale, 1e-7; subnormal in float16."""
    return [x * 2e-5 for x in ordinary(rng, n)]


def subnormal(rng: Random, n: int) -> list[float]:
    """The smallest magnitudes of every type beside ordinary weights."""
    return [[2.0 ** -149, -2.0 ** -133, 2.0 ** -24, -2.0 ** -24, 2.0 ** -14][i % 5] if i % 2 else x for i, x in enumerate(ordinary(rng, n))]


def large(rng: Random, n: int) -> list[float]:
    """A scale beyond 448, nvfp4's greatest: codes saturate."""
    return [5000.0, -3000.0, *(x * 40000 for x in ordinary(rng, n - 2))]


KINDS: dict[int, list[Kind]] = {
    16: [ordinary, e2m1_ties, zeros, negative, outlier, tiny, subnormal, large],
    32: [ordinary, *map(affine_ties, (2, 3, 4, 5, 6, 8)), e2m1_ties, e4m3_ties, zeros, negative, positive, equal, outlier, tiny, subnormal],
    64: [ordinary, affine_ties(3), affine_ties(4), affine_ties(8), zeros, negative, outlier, subnormal],
    128: [ordinary, affine_ties(4), affine_ties(6), negative],
}
FEWER = KINDS | {  # of the types that few checkpoints have
    32: [ordinary, affine_ties(4), affine_ties(8), e2m1_ties, e4m3_ties, zeros, negative, outlier, tiny, subnormal],
    64: [ordinary, affine_ties(5), negative, subnormal],
    128: [ordinary, affine_ties(3)],
}


def quantizing() -> Iterator[dict]:
    for source, kind in TYPES.items():
        for group, kinds in (KINDS if source == "BF16" else FEWER).items():
            rng = Random(group)
            numbers = [w for k in kinds for w in words(kind, *k(rng, group))]
            width = 2 * group
            lines = [numbers[i:i + width] for i in range(0, len(numbers), width)]
            formats = [("affine", bits, size) for bits, size in AFFINE if size == group]
            formats += [(mode, bits, size) for mode, (bits, size) in FLOATING.items() if size == group]
            yield {"name": f"quantize {source} in groups of {group}", "about": ", ".join(k.__qualname__.split(".")[0].replace("_", " ") for k in kinds),
                   "op": "quantize", "source": matrix(lines, source),
                   "results": [result for f in formats for result in both_profiles(lines, source, *f)]}
    rng = Random(5)
    codes, scales = [[CODES[rng.below(len(CODES))] for _ in range(256)] for _ in range(2)], grid(rng, (1, 2), BF16)
    case = fp8("quantize FP8 blocks of 128x128", "codes become bfloat16 first, then the type that is quantized", codes, scales, "BF16", (128, 128))
    lines = apply(codes, scales, "BF16", (128, 128), False, BF16)
    formats = [("affine", 4, 64), *((mode, *f) for mode, f in FLOATING.items())]
    results = [result for f in formats for result in both_profiles(lines, "BF16", *f)]
    lines = [[F16.encode(BF16.decode(w)) for w in line] for line in lines]
    yield case | {"op": "quantize", "results": results + both_profiles(lines, "F16", "affine", 4, 64)}


def both_profiles(lines: Words, dtype: str, mode: str, bits: int, size: int) -> list[dict]:
    kind, results = TYPES[dtype], []
    for profile in ("metal", "cpu"):
        groups = [[quantized([kind.decode(w) for w in line[i:i + size]], mode, bits, profile, kind) for i in range(0, len(line), size)] for line in lines]
        result = {"dtype": dtype, "mode": mode, "bits": bits, "group_size": size, "profile": profile,
                  "codes": rows([list(b"".join(packed(g.codes, bits) for g in line)) for line in groups], 1),
                  "scales": rows([[g.scale for g in line] for line in groups], kind.bytes if mode == "affine" else 1)}
        if mode == "affine":
            result["biases"] = rows([[g.bias for g in line] for line in groups], kind.bytes)
        results.append(result)
    return results


def document() -> dict:
    return {"format": "metalcast parity vectors", "version": VERSION,
            "cases": [case for part in (dequantizing, casting, adding_one, quantizing) for case in part()]}


def text(content: dict) -> str:
    """JSON with a line for each member of a case and each result, so that changes are visible."""
    def case(c: dict) -> str:
        members = [f'  {json.dumps(key)}: {json.dumps(c[key])}' for key in c if key != "results"]
        results = ",\n".join(f"   {json.dumps(r)}" for r in c["results"])
        return " {\n" + ",\n".join(members) + ',\n  "results": [\n' + results + "\n  ]\n }"

    head = ",\n".join(f"{json.dumps(key)}: {json.dumps(content[key])}" for key in content if key != "cases")
    return "{" + head + ',\n"cases": [\n' + ",\n".join(map(case, content["cases"])) + "\n]}\n"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(text(document()))
