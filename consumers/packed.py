"""Checkpoints in formats that metalcast does not convert, with the values they stand for, and what
a runtime made of them.

Linear layers whose columns are whole groups are in the format, as tools skip others; stacks of
experts stay plain.
"""

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import mlx.core as mx
import numpy as np
from cases import Published
from families import FAMILIES
from sources import Source, Tensors, write
from weights import BF16, F32, FP8

FP4 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6], F32)
NIBBLES = np.arange(0, 32, 4)
AWQ_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)  # of a word's nibbles


def words(numbers: np.ndarray, bits: int) -> np.ndarray:
    """Numbers of a row in words of 32 bits, the first lowest."""
    each = numbers.reshape(numbers.shape[0], -1, 32 // bits).astype(np.uint32)
    return (each << np.arange(0, 32, bits, dtype=np.uint32)).sum(-1, dtype=np.uint32).view(np.int32)


def nibbles(numbers: np.ndarray) -> np.ndarray:
    """Two numbers in a byte, the first lowest."""
    return (numbers[:, ::2] | numbers[:, 1::2] << 4).astype(np.uint8)


def spread(scales: np.ndarray, group: int) -> np.ndarray:
    return np.repeat(scales.astype(F32), group, axis=1)


def packed(bits: int, group: int):
    """Of compressed-tensors: symmetric integers."""
    def publish(module: str, rows: int, cols: int, rng: np.random.Generator):
        numbers, scales = rng.integers(0, 2 ** bits, (rows, cols)), rng.uniform(0.01, 0.02, (rows, cols // group)).astype(BF16)
        published = {f"{module}.weight_packed": words(numbers, bits), f"{module}.weight_scale": scales, f"{module}.weight_shape": np.array([rows, cols])}
        return published, (numbers - 2 ** (bits - 1)) * spread(scales, group)
    return publish


def nvfp4(weight: str, whole: str, divides: bool, activation: str):
    """NVFP4 of compressed-tensors, whose per-tensor scale divides, and of ModelOpt, whose scale
    multiplies."""
    def publish(module: str, rows: int, cols: int, rng: np.random.Generator):
        numbers, scales = rng.integers(0, 16, (rows, cols)), rng.uniform(1, 400, (rows, cols // 16)).astype(FP8)
        factor = F32(1 / 4096)
        published = {f"{module}.{weight}": nibbles(numbers), f"{module}.weight_scale": scales, f"{module}.{whole}": np.array(1 / factor if divides else factor, F32),
                     f"{module}.{activation}": np.array(1, F32)}
        return published, FP4[numbers] * spread(scales, 16) * factor
    return publish


def awq(module: str, rows: int, cols: int, rng: np.random.Generator):
    """Of AutoAWQ ("gemm"): input dimension first, nibbles out of order."""
    numbers, zeros = rng.integers(0, 16, (cols, rows)), rng.integers(0, 16, (cols // 64, rows))
    scales = rng.uniform(0.01, 0.02, (cols // 64, rows)).astype(np.float16)

    def shuffled(matrix: np.ndarray) -> np.ndarray:
        return words(matrix.reshape(matrix.shape[0], -1, 8)[:, :, AWQ_ORDER].reshape(matrix.shape), 4)

    published = {f"{module}.qweight": shuffled(numbers), f"{module}.qzeros": shuffled(zeros), f"{module}.scales": scales}
    return published, ((numbers - np.repeat(zeros, 64, 0)) * np.repeat(scales.astype(F32), 64, 0)).T


def bitnet(module: str, rows: int, cols: int, rng: np.random.Generator):
    """-1, 0 and 1, four rows in a byte; mlx-lm keeps them packed, and its Metal kernel unpacks
    them."""
    codes = rng.integers(0, 3, (4, rows // 4, cols))
    return {f"{module}.weight": (codes << np.arange(0, 8, 2)[:, None, None]).sum(0).astype(np.uint8), f"{module}.weight_scale": np.ones(1, BF16)}, None


def with_companions(publish: Callable, **companions: type) -> Callable:
    """A format and its variations: zero points, an order of columns."""
    def both(module: str, rows: int, cols: int, rng: np.random.Generator):
        published, _ = publish(module, rows, cols, rng)
        return published | {f"{module}.{name}": np.zeros((rows, 2), kind) for name, kind in companions.items()}, np.zeros((rows, cols), F32)
    return both


def ct(form: str, bits: int, kind: str, group: int | None, **more) -> dict:
    weights = {"num_bits": bits, "type": kind, "group_size": group, "strategy": "group" if group else "channel", "symmetric": True, "dynamic": False} | more
    return {"quant_method": "compressed-tensors", "format": form, "config_groups": {"group_0": {"targets": ["Linear"], "weights": weights}}, "ignore": ["lm_head"]}


@dataclass(frozen=True)
class Format:
    label: str
    quantization: dict | None
    publish: Callable

    def __hash__(self) -> int:
        return hash(self.label)


MODELOPT_NVFP4 = {"quant_method": "modelopt", "quant_algo": "NVFP4", "group_size": 16, "ignore": ["lm_head"]}
AWQ = {"quant_method": "awq", "bits": 4, "group_size": 64, "zero_point": True, "version": "gemm"}
NVFP4 = nvfp4("weight_packed", "weight_global_scale", True, "input_global_scale")
FORMATS = [
    Format("int4, groups of 32", ct("pack-quantized", 4, "int", 32), packed(4, 32)),
    Format("int4, groups of 128", ct("pack-quantized", 4, "int", 128), packed(4, 128)),
    Format("int8", ct("pack-quantized", 8, "int", 128), packed(8, 128)),
    Format("NVFP4 of compressed-tensors", ct("nvfp4-pack-quantized", 4, "float", 16), NVFP4),
    Format("NVFP4 of ModelOpt", MODELOPT_NVFP4, nvfp4("weight", "weight_scale_2", False, "input_scale")),
    Format("AWQ", AWQ, awq),
]
# In one family: lookalikes, and variations that the runtime of the others does not accept.
UNUSUAL = [
    Format("int4, zero points", ct("pack-quantized", 4, "int", 32, symmetric=False), with_companions(packed(4, 32), weight_zero_point=np.int32)),
    Format("int4, said to be asymmetric", ct("pack-quantized", 4, "int", 32, symmetric=False), packed(4, 32)),
    Format("int4, an order of columns", ct("pack-quantized", 4, "int", 32, actorder="group"), with_companions(packed(4, 32), weight_g_idx=np.int32)),
    Format("int4, groups of 16", ct("pack-quantized", 4, "int", 16), packed(4, 16)),
    Format("int4, no groups", ct("pack-quantized", 4, "int", None), packed(4, 128)),
    Format("int4, another format said", ct("int-quantized", 4, "int", 32), packed(4, 32)),
    Format("NVFP4, another format said", ct("pack-quantized", 4, "float", 16), NVFP4),
    Format("AWQ of 8 bits", AWQ | {"bits": 8}, awq),
    Format("AWQ without a config", None, awq),
    Format("BitNet", {"quant_method": "bitnet"}, bitnet),
]


class PackedSource(Source):
    def __init__(self, form: Format, seed: int):
        super().__init__(None, seed)
        self.form = form

    def parameter(self, name: str, *shape: int) -> None:
        if len(shape) != 2 or shape[1] % 128 or shape[0] % 8 or not name.endswith(".weight"):
            self.plain(name, *shape)
            return
        tensors, value = self.form.publish(name.removesuffix(".weight"), *shape, self.rng)
        self.published |= tensors
        self.values[name] = tensors[name] if value is None else value.astype(F32)


def source(family: str, form: Format, directory: Path) -> tuple[Path, Tensors]:
    """The checkpoint, and its values under Hugging Face's names."""
    published = Published(FAMILIES[family], FAMILIES[family].variants[0])
    config = published.config
    made = PackedSource(form, zlib.crc32(f"{family} {form.label}".encode()))
    (published.variant.build or published.family.build)(made, config)
    if form.quantization:
        config["quantization_config"] = form.quantization
    return write(made.published, config, {}, directory), made.values


def unpacked(got: Tensors, name: str) -> np.ndarray:
    """What a parameter of a loaded model stands for."""
    stem = name.removesuffix(".weight")
    if stem + ".scales" not in got:
        return got[name]
    weight, scales = mx.array(got[name]), got[stem + ".scales"]
    if stem + ".biases" in got:
        group = KNOWN_GROUP[got[name].shape[-1] / scales.shape[-1]]
        biases = mx.array(got[stem + ".biases"].astype(F32))
        return np.array(mx.dequantize(weight, mx.array(scales.astype(F32)), biases, group_size=group[0], bits=group[1]))
    value = np.array(mx.dequantize(weight, mx.array(scales), group_size=16, bits=4, mode="nvfp4").astype(mx.float32))
    if (divisor := got.get(stem + ".weight_global_scale")) is not None:
        value = value / np.reshape(divisor, np.shape(divisor) + (1,) * (value.ndim - np.ndim(divisor)))
    if (factor := got.get(stem + ".weight_scale_2")) is not None:
        value = value * np.reshape(factor, np.shape(factor) + (1,) * (value.ndim - np.ndim(factor)))
    return value


# by the words of a group: its size and bits
KNOWN_GROUP = {4: (32, 4), 8: (64, 4), 16: (128, 4), 32: (128, 8)}


def differences(want: Tensors, got: Tensors) -> list[str]:
    """Parameters of a loaded model that differ from what the checkpoint stores; ignoring types, and
    F16's rounding of a zero point's product."""
    found = []
    for name, value in want.items():
        have = unpacked(got, name).astype(F32) if name in got else np.zeros(0, F32)
        if have.shape != value.shape or not np.allclose(have, value.astype(F32), rtol=1e-3, atol=1e-3 * np.abs(value.astype(F32)).max()):
            found.append(name)
    return found
