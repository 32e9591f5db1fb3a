"""What a conversion's bits must be, in rational numbers: no float operations, no float library, and
no code from metalcast.

A number is (negative, magnitude): a Fraction, INFINITE, or None, which is NaN. The rules of
dequantizing are those of the sources that docs/parity-vectors/README.md names; the rules of
quantizing are read from MLX 0.32.4: mlx/backend/cpu/quantized.cpp and fp_quantize in mlx/ops.cpp
for profile cpu, mlx/backend/metal/kernels/{quantized,fp_quantized,fp4,fp8}.h for profile metal.
"""

from dataclasses import dataclass
from fractions import Fraction

INFINITE = float("inf")
Number = tuple[bool, Fraction | float | None]


@dataclass(frozen=True)
class Type:
    """An IEEE-like binary format: exponent bits, stored mantissa bits."""

    exponent: int
    mantissa: int

    @property
    def bias(self) -> int:
        return (1 << (self.exponent - 1)) - 1

    @property
    def bytes(self) -> int:
        return (1 + self.exponent + self.mantissa) // 8

    @property
    def infinity(self) -> int:
        return ((1 << self.exponent) - 1) << self.mantissa

    def decode(self, word: int) -> Number:
        negative, rest = bool(word >> (self.exponent + self.mantissa)), word & ((1 << (self.exponent + self.mantissa)) - 1)
        if rest >= self.infinity:
            return negative, INFINITE if rest == self.infinity else None
        return negative, self.finite(rest)

    def finite(self, rest: int) -> Fraction:
        field, mantissa = rest >> self.mantissa, rest & ((1 << self.mantissa) - 1)
        if field:
            mantissa |= 1 << self.mantissa
        return mantissa * Fraction(2) ** (max(field, 1) - self.bias - self.mantissa)

    def ordinal(self, magnitude: Fraction) -> int:
        """The bits of the nearest magnitude, ties to even, as if the format were unbounded."""
        if magnitude == 0:
            return 0
        exponent = max(floor_log2(magnitude), 1 - self.bias)
        # Python rounds ties to even
        steps = round(magnitude / Fraction(2) ** (exponent - self.mantissa))
        return ((exponent + self.bias - 1) << self.mantissa) + steps

    def encode(self, number: Number) -> int:
        """RNE; infinite beyond the range; every NaN is the canonical one, positive and quiet."""
        negative, magnitude = number
        if magnitude is None:
            return self.infinity | 1 << (self.mantissa - 1)
        rest = self.infinity if magnitude == INFINITE else min(self.ordinal(magnitude), self.infinity)
        return negative << (self.exponent + self.mantissa) | rest

    def round(self, number: Number) -> Number:
        return self.decode(self.encode(number))


BF16, F16, F32, E4M3 = Type(8, 7), Type(5, 10), Type(8, 23), Type(4, 3)
TYPES = {"BF16": BF16, "F16": F16, "F32": F32}
E2M1 = [Fraction(n, 2) for n in (0, 1, 2, 3, 4, 6, 8, 12)]


def floor_log2(x: Fraction) -> int:
    e = x.numerator.bit_length() - x.denominator.bit_length()
    return e - (x < Fraction(2) ** e)


def e4m3fn(code: int) -> Number:
    """OCP's E4M3: no infinity, one magnitude that is NaN."""
    return bool(code >> 7), None if code & 127 == 127 else E4M3.finite(code & 127)


def e8m0(code: int) -> Number:
    return False, None if code == 255 else Fraction(2) ** (code - 127)


def decode(dtype: str, word: int) -> Number:
    return {"F8_E4M3": e4m3fn, "F8_E8M0": e8m0}[dtype](word) if dtype.startswith("F8") else TYPES[dtype].decode(word)


def product(a: Number, b: Number) -> Number:
    negative, magnitudes = a[0] != b[0], (a[1], b[1])
    if None in magnitudes or INFINITE in magnitudes and 0 in magnitudes:
        return False, None
    return negative, INFINITE if INFINITE in magnitudes else a[1] * b[1]


def reciprocal(a: Number) -> Number:
    """1/a, rounded to float32."""
    return F32.round((a[0], 1 / a[1]))


def dequantized(code: int, factor: Number, to: Type) -> int:
    return to.encode(F32.round(product(e4m3fn(code), factor)))


def plus_one(number: Number, kind: Type) -> int:
    """x + 1 in float32, rounded to its type."""
    if number[1] in (None, INFINITE):
        return kind.encode(number)
    total = value(number) + 1
    return kind.encode(F32.round((total < 0, abs(total))))


def value(number: Number) -> Fraction:
    return -number[1] if number[0] else number[1]


def single(x: Fraction) -> Fraction:
    """x rounded to float32."""
    return value(F32.round((x < 0, abs(x))))


def integer(x: Fraction, away: bool) -> int:
    """The nearest integer; ties go away from zero, or to even."""
    if not away:
        return round(x)
    n = int(abs(x) + Fraction(1, 2))
    return -n if x < 0 else n


@dataclass
class Group:
    """A quantized group: codes, and the bits of its scale and bias."""

    codes: list[int]
    scale: int
    bias: int | None = None


def affine(numbers: list[Number], bits: int, profile: str, kind: Type) -> Group:
    metal, n = profile == "metal", (1 << bits) - 1
    w = [value(x) for x in numbers]
    lo, hi = min(w), max([*w, Fraction(0)] if metal else w)
    scale = max(single(single(hi - lo) / n), value(F32.decode(0x33D6BF95)))  # 1e-7f
    edge = lo
    if abs(lo) <= abs(hi):
        edge, scale = hi, -scale
    bias, steps = Fraction(0), integer(single(edge / scale), metal)
    if steps:
        scale, bias = single(edge / steps), edge
    codes = [min(max(integer(single(single(x - bias) / scale), metal), 0), n) for x in w]
    return Group(codes, kind.encode((scale < 0, abs(scale))), kind.encode((bias < 0, abs(bias))))


def floating(numbers: list[Number], mode: str, profile: str, kind: Type) -> Group:
    """mxfp4, mxfp8 and nvfp4."""
    metal = profile == "metal"

    def narrowed(x: Fraction) -> Fraction:
        return single(x) if metal else value(kind.round((x < 0, abs(single(x)))))

    ratio = narrowed(max(x[1] for x in numbers) / (448 if mode == "mxfp8" else 6))
    if mode == "nvfp4":
        scale = min(E4M3.ordinal(ratio), 0x7E)
        step = E4M3.finite(scale)
    else:
        # the least with 2**exponent >= ratio
        exponent = -floor_log2(1 / ratio) if ratio else (-127 if metal else 0)
        scale, step = exponent + 127, Fraction(2) ** exponent
        assert 0 <= scale < 255, "a scale beyond E8M0, where MLX's backends go each its own way"
    inverse = single(1 / step) if step else Fraction(0)
    codes = []
    for negative, magnitude in numbers:
        v = single(magnitude * inverse) if metal else narrowed(magnitude / step) if step else Fraction(0)
        if mode == "mxfp8":
            codes.append(negative << 7 | min(E4M3.ordinal(v), 0x7E))
            continue
        # The nearest; of two the even code, as Metal rounds, or the smaller, which an argmin finds
        # first.
        code = min(range(8), key=lambda c: (abs(E2M1[c] - v), c % 2 if metal else c))
        codes.append((negative and (metal or code > 0)) << 3 | code)
    return Group(codes, scale)


def quantized(numbers: list[Number], mode: str, bits: int, profile: str, kind: Type) -> Group:
    return affine(numbers, bits, profile, kind) if mode == "affine" else floating(numbers, mode, profile, kind)


def packed(codes: list[int], bits: int) -> bytes:
    """One little-endian stream, the first code in its lowest bits."""
    return sum(code << i * bits for i, code in enumerate(codes)).to_bytes(len(codes) * bits // 8, "little")
