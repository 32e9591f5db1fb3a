"""How FP8 weights are published: each dialect's names, shapes and types of scales, and what the
config says about them.

A dialect turns the codes of one weight into published tensors, and describes their values as a grid
of scales with the rows and columns that share one. Nothing here depends on a family.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import ml_dtypes
import numpy as np
from weights import BF16, F32, beside_a_tie

E8M0 = ml_dtypes.float8_e8m0fnu
Tensors = dict[str, np.ndarray]


def module(name: str) -> str:
    return name.removesuffix(".weight")


def inverse(name: str) -> str:
    """q_proj.weight_scale_inv, and experts.down_proj_scale_inv for a parameter that is not a
    module."""
    return name + "_scale_inv"


def direct(name: str) -> str:
    return name + "_scale" if name.endswith(".weight") else name + "_weight_scale"


def random_scales(rng: np.random.Generator, shape: tuple[int, ...], kind: type) -> np.ndarray:
    """Log-uniform; powers of two if the type or its dialect has no others. In F32 the first one
    distinguishes one rounding from two."""
    exponent = rng.uniform(-12, -4, shape)
    if kind in (E8M0, np.uint8):
        return np.round(exponent + 127).astype(np.uint8).view(kind)
    scales = np.exp2(exponent).astype(kind)
    if kind is F32 and scales.ndim:
        scales.flat[0] = beside_a_tie(scales.flat[0])
    return scales


@dataclass(frozen=True)
class Dialect:
    label: str
    config: dict
    kind: type = BF16  # of the scales
    block: tuple[int | None, int | None] = (128, 128)  # None: all rows, all columns
    scale: Callable[[str], str] = inverse
    powers: bool = False  # F32 scales that are powers of two
    extras: tuple[str, ...] = ()  # of each module: scalars that no bf16 consumer uses
    kv: bool = False  # scales of an FP8 KV cache
    # the shape in which a grid is stored
    written: Callable[[np.ndarray], np.ndarray] = field(default=lambda grid: grid)
    whole: bool = False  # a stack of matrices has one scale for all of them
    files: tuple[tuple[str, str], ...] = ()  # further files of the release

    def publish(self, name: str, codes: np.ndarray, rng: np.random.Generator) -> tuple[Tensors, np.ndarray, tuple[int, int]]:
        rows, cols = codes.shape[-2:]
        block = (self.block[0] or rows, self.block[1] or cols)
        shape = (*codes.shape[:-2], -(-rows // block[0]), -(-cols // block[1]))
        if self.whole:
            shape = (1,) * codes.ndim
        grid = random_scales(rng, shape, self.kind)
        if self.powers:
            grid = np.exp2(np.round(np.log2(grid.astype(F32)))).astype(self.kind)
        tensors = {name: codes, self.scale(name): self.written(grid)}
        for extra in self.extras:
            stem = module(name) + ("." if name.endswith(".weight") else "_")
            tensors[stem + extra] = np.full(() if self.whole else codes.shape[:-2], 0.25, F32)
        if self.kv and name.endswith((".k_proj.weight", ".v_proj.weight")):
            tensors[f"{module(name)}.{module(name)[-6]}_scale"] = np.array(0.5, F32)
        meaning = grid if self.kind is not np.uint8 else grid.view(E8M0)
        return tensors, meaning, block


def fp8(**more) -> dict:
    return {"activation_scheme": "dynamic", "fmt": "e4m3", "quant_method": "fp8", "weight_block_size": [128, 128], **more}


def compressed(strategy: str, block: list[int] | None = None, static: bool = False, form: str = "float-quantized") -> dict:
    """A compressed-tensors config as llm-compressor writes it."""
    weights = {"actorder": None, "block_structure": block, "dynamic": False, "group_size": None, "num_bits": 8, "observer": "minmax",
               "observer_kwargs": {}, "strategy": strategy, "symmetric": True, "type": "float"}
    inputs = {**weights, "block_structure": None, "dynamic": not static, "strategy": "tensor" if static else "token"}
    group = {"input_activations": inputs, "output_activations": None, "targets": ["Linear"], "weights": weights}
    return {"config_groups": {"group_0": group}, "format": form, "global_compression_ratio": None, "ignore": ["lm_head"],
            "kv_cache_scheme": None, "quant_method": "compressed-tensors", "quantization_status": "compressed"}


def modelopt(algorithm: str) -> dict:
    return {"config_groups": {"group_0": {"targets": ["Linear"], "weights": {"num_bits": 8, "type": "float"}}},
            "ignore": ["lm_head"], "producer": {"name": "modelopt", "version": "0.39.0"}, "quant_algo": algorithm, "quant_method": "modelopt"}


HF_QUANT = (("hf_quant_config.json", '{"producer": {"name": "modelopt"}, "quantization": {"quant_algo": "FP8", "kv_cache_quant_algo": "FP8"}}'),)
PER_TENSOR = {"block": (None, None), "extras": ("activation_scale",)}
STATIC = fp8(activation_scheme="static", weight_block_size=None)

BLOCK_BF16 = Dialect("blocks, BF16 scales", fp8(modules_to_not_convert=["lm_head"]))
BLOCK_F32 = Dialect("blocks, F32 scales", fp8(), F32)
BLOCK_STACKED = Dialect("stacked blocks, F32 scales", fp8(), F32)
UE8M0_F32 = Dialect("blocks, UE8M0 scales stored as F32", fp8(scale_fmt="ue8m0"), F32, powers=True)
UE8M0 = Dialect("blocks, F8_E8M0 scales named .scale", fp8(scale_fmt="ue8m0"), E8M0, scale=lambda name: module(name) + ".scale")
UE8M0_U8 = Dialect("blocks, UE8M0 scales stored as U8", fp8(scale_fmt="ue8m0"), np.uint8)
TENSOR_BF16 = Dialect("per tensor, BF16 scales", STATIC, BF16, written=lambda grid: grid[..., 0, 0], **PER_TENSOR)
TENSOR_111 = Dialect("per tensor, scales [E,1,1]", STATIC, BF16, written=lambda grid: grid if grid.ndim > 2 else grid[..., 0, 0], **PER_TENSOR)
CT_CHANNEL = Dialect("compressed-tensors, channel, BF16", compressed("channel"), BF16, (1, None), direct)
CT_CHANNEL_F32 = Dialect("compressed-tensors, channel, F32", compressed("channel"), F32, (1, None), direct)
CT_TENSOR = Dialect("compressed-tensors, tensor", compressed("tensor", static=True), BF16, (None, None), direct, extras=("input_scale",),
                    written=lambda grid: grid.reshape(1))
CT_BLOCK = Dialect("compressed-tensors, blocks 64x32", compressed("block", [64, 32]), BF16, (64, 32), direct)
LEGACY = Dialect("static per tensor, F32", fp8(activation_scheme="static", weight_block_size=None, ignored_layers=["lm_head"]), F32,
                 (None, None), direct, extras=("input_scale",), written=lambda grid: grid[..., 0, 0])
MODELOPT = Dialect("ModelOpt, per tensor", modelopt("FP8"), F32, (None, None), direct, extras=("input_scale",), kv=True,
                   written=lambda grid: grid[..., 0, 0], files=HF_QUANT)
MODELOPT_BLOCK = Dialect("ModelOpt, blocks [ob,1,ib,1]", modelopt("FP8_PB_WO"), F32, scale=direct, written=lambda grid: grid[:, None, :, None],
                         files=HF_QUANT)
MODELOPT_STACK = Dialect("ModelOpt, one scale for all experts", modelopt("FP8"), F32, (None, None), direct, extras=("input_scale",), whole=True,
                         written=lambda grid: grid.reshape(()), files=HF_QUANT)
