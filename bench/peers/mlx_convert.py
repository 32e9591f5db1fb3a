"""FP8 to bfloat16 with mlx, by the arithmetic of mlx-lm's deepseek_v3.sanitize, experts stacked.
usage: mlx_convert.py SRC DST"""

import sys
from pathlib import Path

import mlx.core as mx
from layout import Writer, outputs, weight_map

BLOCK = 128


def dequantize(weight: mx.array, scale: mx.array) -> mx.array:
    weight = mx.from_fp8(weight, dtype=mx.bfloat16)
    rows, cols = weight.shape
    down, across = scale.shape
    weight = mx.pad(weight, ((0, down * BLOCK - rows), (0, across * BLOCK - cols)))
    weight = weight.reshape(down, BLOCK, across, BLOCK) * scale[:, None, :, None]
    return weight.reshape(down * BLOCK, across * BLOCK)[:rows, :cols].astype(mx.bfloat16)


def main(src: Path, dst: Path) -> None:
    where = weight_map(src)
    tensors = {}
    for file in sorted(set(where.values())):
        tensors |= mx.load(str(src / file))  # lazily

    def load(name: str) -> mx.array:
        tensor, scale = tensors.pop(name), tensors.pop(f"{name}_scale_inv", None)
        return tensor if scale is None else dequantize(tensor, scale)

    writer = Writer(dst, lambda held, path: mx.save_safetensors(path, held, metadata={"format": "mlx"}))
    for name, experts in outputs(where):
        tensor = load(name) if experts == [[name]] else mx.stack([mx.concatenate([load(part) for part in parts]) for parts in experts])
        mx.eval(tensor)
        writer.add(name, tensor)
    writer.finish(src)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
