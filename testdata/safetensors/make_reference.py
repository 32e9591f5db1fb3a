"""Writes reference.safetensors with the reference library.

Run: python make_reference.py (needs safetensors, numpy, ml_dtypes).
"""

import pathlib

import ml_dtypes
import numpy as np
from safetensors.numpy import save_file

tensors = {
    "u8": np.arange(3, dtype=np.uint8),
    "f8": np.array([0.0, 1.0, 448.0, -0.0, -1.0, -448.0]).astype(ml_dtypes.float8_e4m3fn),
    "bf16": np.array([[1.0, -2.0], [0.5, 3.0]]).astype(ml_dtypes.bfloat16),
    "f32": np.array([1.5, -0.0], dtype=np.float32),
    "scalar": np.array(7.0, dtype=np.float32),
    "i64": np.array([2**40], dtype=np.int64),
}
save_file(tensors, pathlib.Path(__file__).with_name("reference.safetensors"), metadata={"format": "pt"})
