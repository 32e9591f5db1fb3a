"""FP8 to bfloat16 by loading the model with transformers, dequantizing, and saving it. usage:
transformers_convert.py SRC DST"""

import sys

import torch
from transformers import AutoModelForImageTextToText, AutoTokenizer, FineGrainedFP8Config

if __name__ == "__main__":
    src, dst = sys.argv[1:]
    model = AutoModelForImageTextToText.from_pretrained(src, dtype=torch.bfloat16, quantization_config=FineGrainedFP8Config(dequantize=True))
    model.save_pretrained(dst)
    AutoTokenizer.from_pretrained(src).save_pretrained(dst)
