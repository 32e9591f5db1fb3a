"""Quantizes matrices with MLX on the CPU, for mlx_test.go and by hand.

    python quantize.py DIR

DIR/request.json lists jobs: {"input": file, "dtype": "BF16"|"F16"|"F32", "cols": n, "formats":
[[mode, bits, group size], ...]}. The input is little-endian elements. For every format DIR gets
INPUT.MODE.BITS.GROUP with the suffixes codes, scales, biases (affine only) and values:
mx.dequantize of them, in the input's type.
"""

import json
import pathlib
import sys

import mlx.core as mx
import numpy as np

TYPES = {"BF16": (np.uint16, mx.bfloat16), "F16": (np.uint16, mx.float16), "F32": (np.uint32, mx.float32)}


def raw(a):
    """The bytes of an array."""
    a = mx.contiguous(a)
    return np.array(a.view(mx.uint16) if a.dtype == mx.bfloat16 else a).tobytes()


def main(folder):
    mx.set_default_device(mx.cpu)
    for job in json.loads((folder / "request.json").read_text()):
        word, dtype = TYPES[job["dtype"]]
        bits = np.fromfile(folder / job["input"], word).reshape(-1, job["cols"])
        w = mx.array(bits).view(dtype)
        for mode, bits, group in job["formats"]:
            parts = mx.quantize(w, group_size=group, bits=bits, mode=mode)
            kind = {"dtype": dtype} if mode != "affine" else {}
            values = mx.dequantize(*parts, group_size=group, bits=bits, mode=mode, **kind)
            assert values.dtype == dtype
            for name, part in zip(["codes", "scales", "biases"], parts):
                (folder / f"{job['input']}.{mode}.{bits}.{group}.{name}").write_bytes(raw(part))
            (folder / f"{job['input']}.{mode}.{bits}.{group}.values").write_bytes(raw(values))
    print(mx.__version__)


main(pathlib.Path(sys.argv[1]))
