"""FP8 to bfloat16 with compressed-tensors' own converter, which leaves experts one by one. usage:
compressed_tensors_convert.py SRC DST"""

import sys

from compressed_tensors.entrypoints.convert import FP8BlockDequantizer, convert_checkpoint

if __name__ == "__main__":
    src, dst = sys.argv[1:]
    convert_checkpoint(src, dst, FP8BlockDequantizer.from_pretrained(src), device="cpu")
