"""Weights as other tools quantize them: each format's tensors for a linear layer, and the values
they stand for.

The formats are written from their tools' documentation and code: AutoAWQ and AutoGPTQ,
compressed-tensors, ModelOpt, the OCP Microscaling specification, bitsandbytes, HQQ, quanto, EETQ,
torchao and BitNet.
"""

from collections.abc import Callable
from pathlib import Path

import ml_dtypes
import numpy as np
from sources import Tensors, write
from weights import BF16

E4M3 = ml_dtypes.float8_e4m3fn
HIDDEN, INNER, HEADS, HEAD, VOCAB, LAYERS = 256, 384, 4, 64, 96, 2
E2M1 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6], np.float32)
# tensors by the ends of their names, values if a runtime may have them
Layer = tuple[Tensors, np.ndarray | None]


def spread(scales: np.ndarray, group: int) -> np.ndarray:
    return np.repeat(scales.astype(np.float32), group, -1)


def packed(codes: np.ndarray, bits: int, order: list[int] | None = None) -> np.ndarray:
    """Codes along the last axis, low bits first, in 32-bit words; order says which code is in each
    position."""
    n = 32 // bits
    codes = codes.reshape(*codes.shape[:-1], -1, n).astype(np.uint32)
    words = np.zeros(codes.shape[:-1], np.uint32)
    for place, code in enumerate(order or range(n)):
        words |= codes[..., code] << np.uint32(bits * place)
    return words.view(np.int32)


def pairs(codes: np.ndarray) -> np.ndarray:
    return (codes[..., 0::2] | codes[..., 1::2] << 4).astype(np.uint8)


def scales(rng, *shape: int, dtype: type = BF16) -> np.ndarray:
    return np.exp2(rng.uniform(-10, -8, shape)).astype(np.float32).astype(dtype)


def awq(rng, rows: int, cols: int, group: int = 64) -> Layer:
    codes, zeros = rng.integers(0, 16, (cols, rows)), rng.integers(0, 16, (cols // group, rows))
    s = scales(rng, cols // group, rows, dtype=np.float16)
    order = [0, 2, 4, 6, 1, 3, 5, 7]
    values = (codes - np.repeat(zeros, group, 0)) * np.repeat(s.astype(np.float32), group, 0)
    return {"qweight": packed(codes, 4, order), "qzeros": packed(zeros, 4, order), "scales": s}, values.T


def gptq(rng, rows: int, cols: int, group: int = 64) -> Layer:
    codes = rng.integers(0, 16, (cols, rows))
    return {
        "qweight": packed(codes.T, 4).T.copy(), "qzeros": packed(np.full((cols // group, rows), 7), 4), "scales": scales(rng, cols // group, rows, dtype=np.float16),
        "g_idx": (np.arange(cols) // group).astype(np.int32),
    }, None


def pack_quantized(bits: int, group: int) -> Callable:
    def layer(rng, rows: int, cols: int) -> Layer:
        codes, s = rng.integers(0, 2**bits, (rows, cols)), scales(rng, rows, cols // group)
        return {
            "weight_packed": packed(codes, bits), "weight_scale": s, "weight_shape": np.array([rows, cols], np.int64),
        }, (codes - 2 ** (bits - 1)) * spread(s, group)
    return layer


def nvfp4(rng, rows: int, cols: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    codes, s = rng.integers(0, 16, (rows, cols)), np.exp2(rng.integers(-2, 6, (rows, cols // 16))).astype(E4M3)
    return pairs(codes), s, E2M1[codes] * spread(s, 16)


def nvfp4_compressed(rng, rows: int, cols: int) -> Layer:
    bytes_, s, values = nvfp4(rng, rows, cols)
    divisor = np.array([4096], np.float32)
    return {"weight_packed": bytes_, "weight_scale": s, "weight_global_scale": divisor, "input_global_scale": np.ones(1, np.float32)}, values / divisor


def nvfp4_modelopt(rng, rows: int, cols: int) -> Layer:
    bytes_, s, values = nvfp4(rng, rows, cols)
    factor = np.array(1 / 4096, np.float32)
    return {"weight": bytes_, "weight_scale": s, "weight_scale_2": factor, "input_scale": np.ones((), np.float32)}, values * factor


def mxfp4(name: str) -> Callable:
    def layer(rng, rows: int, cols: int) -> Layer:
        return {name: pairs(rng.integers(0, 16, (rows, cols))), "weight_scale": rng.integers(110, 118, (rows, cols // 32)).astype(np.uint8)}, None
    return layer


def int8(scale: str, shape: Callable[[int], tuple] = lambda rows: (rows, 1), dtype: type = np.float32, weight: str = "weight") -> Callable:
    def layer(rng, rows: int, cols: int) -> Layer:
        return {weight: rng.integers(-127, 128, (rows, cols)).astype(np.int8), scale: scales(rng, *shape(rows), dtype=dtype)}, None
    return layer


def hqq(rng, rows: int, cols: int) -> Layer:
    n = rows * cols // 64
    return {"W_q": rng.integers(0, 256, (n // 2, 64)).astype(np.uint8), "scale": scales(rng, n, 1, dtype=np.float16), "zero": np.ones((n, 1), np.float16), "nbits": np.array(4)}, None


def torchao(rng, rows: int, cols: int) -> Layer:
    return {"_weight_qdata": rng.normal(size=(rows, cols)).astype(E4M3), "_weight_scale": scales(rng, rows, 1, dtype=np.float32)}, None


def fp8_bytes(rng, rows: int, cols: int) -> Layer:
    codes, s = rng.normal(size=(rows, cols)).astype(E4M3), np.exp(rng.uniform(-6, -5, (rows // 128, cols // 128))).astype(np.float32)
    return {"weight": codes.view(np.uint8), "weight_scale_inv": s}, codes.astype(np.float32) * np.repeat(spread(s, 128), 128, 0)


def bitnet(rng, rows: int, cols: int) -> Layer:
    codes = rng.integers(0, 3, (4, rows // 4, cols))
    return {"weight": sum(codes[i] << 2 * i for i in range(4)).astype(np.uint8), "weight_scale": np.ones(1, BF16)}, None


def compressed(form: str, bits: int, kind: str = "int", group: int = 32) -> dict:
    weights = {"num_bits": bits, "type": kind, "strategy": "group", "group_size": group, "symmetric": True}
    return {"quant_method": "compressed-tensors", "format": form, "config_groups": {"group_0": {"targets": ["Linear"], "weights": weights}}, "ignore": ["lm_head"]}


# By metalcast's name for the format: how a layer is stored, the quantization_config, and the
# runtime that loads it.
FORMATS: dict[str, tuple[Callable, dict, str | None]] = {
    "AWQ": (awq, {"quant_method": "awq", "bits": 4, "group_size": 64, "zero_point": True, "version": "gemm"}, "mlx-lm"),
    "GPTQ": (gptq, {"quant_method": "gptq", "bits": 4, "group_size": 64, "sym": True, "desc_act": False}, None),
    "int4 (compressed-tensors pack-quantized)": (pack_quantized(4, 32), compressed("pack-quantized", 4), "mlx-vlm"),
    "int8 (compressed-tensors pack-quantized)": (pack_quantized(8, 128), compressed("pack-quantized", 8, group=128), "mlx-vlm"),
    "NVFP4 (compressed-tensors)": (nvfp4_compressed, compressed("nvfp4-pack-quantized", 4, "float", 16), "mlx-vlm"),
    "NVFP4 (ModelOpt)": (nvfp4_modelopt, {"quant_method": "modelopt", "quant_algo": "NVFP4", "group_size": 16}, "mlx-vlm"),
    "MXFP4 (compressed-tensors)": (mxfp4("weight_packed"), compressed("mxfp4-pack-quantized", 4, "float"), None),
    "MXFP4 (Quark)": (mxfp4("weight"), {"quant_method": "quark"}, None),
    "int8 with scales (w8a8)": (int8("weight_scale", dtype=BF16), compressed("int-quantized", 8), None),
    "bitsandbytes (8 bits)": (int8("SCB", lambda rows: (rows,)), {"quant_method": "bitsandbytes", "load_in_8bit": True}, None),
    "EETQ": (int8("weight_scales", lambda rows: (rows,), np.float16), {"quant_method": "eetq"}, None),
    "quanto": (int8("weight._scale", weight="weight._data"), {"quant_method": "quanto"}, None),
    "HQQ": (hqq, {"quant_method": "hqq"}, None),
    "torchao": (torchao, {"quant_method": "torchao"}, None),
    "FP8 whose bytes were saved as U8": (fp8_bytes, {"quant_method": "fp8", "weight_block_size": [128, 128]}, None),
    "BitNet": (bitnet, {"quant_method": "bitnet", "modules_to_not_convert": ["lm_head"]}, "mlx-lm"),
}

CONFIG = {
    "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "hidden_size": HIDDEN, "intermediate_size": INNER, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS,
    "num_key_value_heads": HEADS, "head_dim": HEAD, "vocab_size": VOCAB, "rms_norm_eps": 1e-6, "rope_theta": 1e6, "max_position_embeddings": 512, "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
}
LINEAR = {
    "self_attn.q_proj": (HEADS * HEAD, HIDDEN), "self_attn.k_proj": (HEADS * HEAD, HIDDEN), "self_attn.v_proj": (HEADS * HEAD, HIDDEN), "self_attn.o_proj": (HIDDEN, HEADS * HEAD),
    "mlp.gate_proj": (INNER, HIDDEN), "mlp.up_proj": (INNER, HIDDEN), "mlp.down_proj": (HIDDEN, INNER),
}


def make(name: str, directory: Path) -> dict[str, np.ndarray | None]:
    """A Qwen3 in a format, and the values of its linear layers by name."""
    layer, quantization, _ = FORMATS[name]
    rng = np.random.default_rng(len(name))

    def plain(*shape: int) -> np.ndarray:
        return rng.normal(0, 0.05, shape).astype(BF16)
    tensors: Tensors = {"model.embed_tokens.weight": plain(VOCAB, HIDDEN), "model.norm.weight": plain(HIDDEN), "lm_head.weight": plain(VOCAB, HIDDEN)}
    values = {}
    for number in range(LAYERS):
        prefix = f"model.layers.{number}."
        tensors |= {f"{prefix}{norm}.weight": plain(HIDDEN) for norm in ("input_layernorm", "post_attention_layernorm")}
        tensors |= {f"{prefix}self_attn.{norm}.weight": plain(HEAD) for norm in ("q_norm", "k_norm")}
        for module, shape in LINEAR.items():
            stored, values[prefix + module] = layer(rng, *shape)
            tensors |= {f"{prefix}{module}.{end}": np.asarray(tensor) for end, tensor in stored.items()}
    write(tensors, CONFIG | {"quantization_config": quantization}, {}, directory)
    return values
