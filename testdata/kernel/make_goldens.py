#!/usr/bin/env python3
"""Write golden results of dequantization and of casts, computed by numpy with ml_dtypes and checked
against torch and MLX.

    pip install numpy ml_dtypes torch "mlx[cpu]"
    python make_goldens.py

A golden file is gzip of one line of JSON, {"arrays": [{"name", "type", "shape"}]}, and then the
arrays in that order. Types are safetensors names. An array is stored as planes: the first bytes of
all elements (little-endian), then the second bytes and so on, which compresses well. Libraries
agree on every bit except those of NaN: there goldens only say that the result is NaN.
"""
import gzip
import io
import json
import os
import warnings

import ml_dtypes
import mlx.core as mx
import numpy as np
import torch

HERE = os.path.dirname(os.path.abspath(__file__))
TYPES = {"BF16": ml_dtypes.bfloat16, "F16": np.float16, "F32": np.float32}
TORCH = {"BF16": torch.bfloat16, "F16": torch.float16, "F32": torch.float32}
MLX = {"BF16": mx.bfloat16, "F16": mx.float16, "F32": mx.float32}


def name_of(a):
    return "U8" if a.dtype == np.uint8 else next(n for n, t in TYPES.items() if a.dtype == t)


def write(name, **arrays):
    header = {"arrays": [{"name": k, "type": name_of(a), "shape": list(a.shape)} for k, a in arrays.items()]}
    raw = io.BytesIO()
    raw.write(json.dumps(header).encode() + b"\n")
    for a in arrays.values():
        a = np.ascontiguousarray(a)
        raw.write(a.view(np.uint8).reshape(a.size, a.itemsize).T.tobytes())
    with open(os.path.join(HERE, name + ".golden.gz"), "wb") as f:
        f.write(gzip.compress(raw.getvalue(), 9, mtime=0))


def bits(a):
    return np.ascontiguousarray(a).view({2: np.uint16, 4: np.uint32}[a.itemsize])


def from_torch(t):
    if t.dtype == torch.float32:
        return t.numpy()
    return t.view(torch.int16).numpy().view(ml_dtypes.bfloat16 if t.dtype == torch.bfloat16 else np.float16)


def from_mlx(a):
    if a.dtype == mx.float32:
        return np.array(a)
    return np.array(a.view(mx.uint16)).view(ml_dtypes.bfloat16 if a.dtype == mx.bfloat16 else np.float16)


def same(what, a, b):
    """Equal bits; NaNs equal any NaN."""
    nan = np.isnan(a.astype(np.float32))
    assert (nan == np.isnan(b.astype(np.float32))).all(), what
    wrong = (bits(a) != bits(b)) & ~nan
    assert not wrong.any(), f"{what}: {wrong.sum()} of {a.size} differ"


def dequant(codes, scales):
    """codes and scales broadcast; scales in their own type. Returns {type: result}."""
    product = codes.view(ml_dtypes.float8_e4m3fn).astype(np.float32) * scales.astype(np.float32)
    results = {n: product.astype(t) for n, t in TYPES.items()}
    wide = torch.from_numpy(codes).view(torch.float8_e4m3fn).to(torch.float32) * torch.from_numpy(scales.astype(np.float32))
    for n, t in TORCH.items():
        same("torch " + n, results[n], from_torch(wide.to(t)))
    small = (np.abs(product) < np.finfo(np.float32).tiny) & (product != 0)
    with mx.stream(mx.cpu):
        wide = mx.from_fp8(mx.array(codes), dtype=mx.float32) * mx.array(scales.astype(np.float32))
        for n, t in MLX.items():
            same("mlx " + n, results[n], from_mlx(wide.astype(t)))
    print(f"{codes.size} codes, {scales.size} scales {name_of(scales)}: {small.sum()} subnormal products, numpy = torch = mlx")
    return results


def boundary_scales(rng):
    """float32 bits: both ends of the exponent's range, every kind of mantissa, both signs, NaN and
    infinities."""
    s = []
    for e in [*range(0, 13), 100, 112, 113, 114, 120, 126, 127, 128, 134, 135, *range(238, 256)]:
        for m in [0, 1, 0x7FFFFF, 0x400000, 0x7F8000, 0x008000, 0x018000, int(rng.integers(1 << 23))]:
            s.append(e << 23 | m | int(rng.integers(2)) << 31)
    return np.array(s, np.uint32).view(np.float32)


def main():
    warnings.simplefilter("ignore")
    rng = np.random.default_rng(20261124)
    # Mantissa before exponent: results of equal mantissa are neighbours, which compresses.
    codes = np.arange(256, dtype=np.uint8).reshape(2, 16, 8).transpose(0, 2, 1).reshape(1, 256).copy()
    edges = boundary_scales(rng)
    usual = (10 ** rng.uniform(-6, 1, 48)).astype(np.float32)
    for kind, scales in {"f32": np.concatenate([edges, usual]), "bf16": np.unique(bits(np.concatenate([edges, usual]).astype(ml_dtypes.bfloat16))).view(ml_dtypes.bfloat16)}.items():
        results = dequant(codes, scales.reshape(-1, 1))
        write("codes_" + kind, codes=codes[0], scales=scales, **results)

    rows, cols, block = 130, 200, 128
    r, c = np.mgrid[:rows, :cols]
    codes = ((37 * r + 11 * c) % 256).astype(np.uint8)
    for kind, t in {"f32": np.float32, "bf16": ml_dtypes.bfloat16}.items():
        scales = (10 ** rng.uniform(-4, -1, (2, 2))).astype(np.float32).astype(t)
        results = dequant(codes, scales.repeat(block, 0)[:rows].repeat(block, 1)[:, :cols])
        write("ragged_" + kind, codes=codes, scales=scales, **results)

    single = np.concatenate([edges, rng.integers(1 << 32, size=2000, dtype=np.uint32).view(np.float32),
                             (np.arange(3000, dtype=np.uint32) * 4096 + 0x33000000).view(np.float32)])  # float16's subnormals, ties
    half = np.arange(0, 1 << 16, 13, dtype=np.uint16)
    for x in (single, half.view(np.float16), half.view(ml_dtypes.bfloat16)):
        results = {n: x.astype(np.float32).astype(t) for n, t in TYPES.items()}
        wide = torch.from_numpy(x.astype(np.float32))
        for n, t in TORCH.items():
            same("torch cast " + n, results[n], from_torch(wide.to(t)))
        with mx.stream(mx.cpu):
            for n, t in MLX.items():
                same("mlx cast " + n, results[n], from_mlx(mx.array(x.astype(np.float32)).astype(t)))
        write("cast_" + name_of(x).lower(), source=x, **results)
    print("numpy", np.__version__, "ml_dtypes", ml_dtypes.__version__, "torch", torch.__version__, "mlx", mx.__version__)


if __name__ == "__main__":
    main()
