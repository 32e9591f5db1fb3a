"""FP8 to bfloat16 with torch, as people write it: dequantize block by block, stack the experts,
save. usage: torch_convert.py SRC DST"""

import sys
from pathlib import Path

import torch
from layout import Writer, outputs, weight_map
from safetensors import safe_open
from safetensors.torch import save_file

BLOCK = 128


def dequantize(weight: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    rows, cols = weight.shape
    down, across = scale.shape
    wide = torch.nn.functional.pad(weight.float(), (0, across * BLOCK - cols, 0, down * BLOCK - rows))
    product = wide.view(down, BLOCK, across, BLOCK) * scale.float()[:, None, :, None]
    return product.to(torch.bfloat16).view(down * BLOCK, across * BLOCK)[:rows, :cols]


def main(src: Path, dst: Path) -> None:
    where = weight_map(src)
    shards = {file: safe_open(src / file, framework="pt") for file in set(where.values())}

    def load(name: str) -> torch.Tensor:
        tensor = shards[where[name]].get_tensor(name)
        scale = f"{name}_scale_inv"
        return dequantize(tensor, shards[where[scale]].get_tensor(scale)) if scale in where else tensor

    writer = Writer(dst, lambda tensors, path: save_file(tensors, path, metadata={"format": "pt"}))
    for name, experts in outputs(where):
        if experts == [[name]]:
            writer.add(name, load(name).contiguous())
            continue
        stacked = None
        for i, parts in enumerate(experts):
            one = torch.cat([load(part) for part in parts])
            if stacked is None:
                stacked = torch.empty(len(experts), *one.shape, dtype=one.dtype)
            stacked[i] = one
        writer.add(name, stacked)
    writer.finish(src)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
