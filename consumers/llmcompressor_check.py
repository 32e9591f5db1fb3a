"""FP8 by a lab's own tool: llm-compressor quantizes the real model, metalcast converts it, torch
dequantizes it too; then mlx-lm answers.

By hand, in two environments (README.md has the record), because llm-compressor needs torch and
other versions than mlx-lm:

    llmcompressor_check.py make PLAIN RELEASE FP8_DYNAMIC|FP8_BLOCK    with llmcompressor
    llmcompressor_check.py compare RELEASE OUTPUT                      with llmcompressor
    llmcompressor_check.py answer DIRECTORY                            with mlx-lm
"""

import sys
from pathlib import Path

QUESTION = "What is the capital of France?"


def make(plain: str, release: str, scheme: str) -> None:
    import safetensors.torch
    from llmcompressor.entrypoints import model_free

    def save(tensors, *arguments, **options):
        """0.14.0.1 leaves matrices with partial blocks as views of padded ones, which safetensors
        does not write."""
        safetensors.torch.save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, *arguments, **options)

    model_free.save_file = save
    model_free.model_free_ptq(plain, release, scheme=scheme, ignore=["lm_head", "model.embed_tokens"], device="cpu")


def read(directory: str) -> dict:
    from safetensors.torch import load_file
    tensors = {}
    for shard in sorted(Path(directory).glob("*.safetensors")):
        tensors |= load_file(shard)
    return tensors


def compare(release: str, output: str) -> None:
    import torch
    source, result = read(release), read(output)
    codes = 0
    for name, tensor in source.items():
        if name.endswith("_scale"):
            continue
        want = tensor
        if tensor.dtype == torch.float8_e4m3fn:
            scale, codes = source[name + "_scale"].float(), codes + 1
            block = 128 if scale.shape[1] > 1 else tensor.shape[1]
            rows = tensor.shape[0] if scale.shape[0] == tensor.shape[0] else 128
            spread = scale.repeat_interleave(1 if rows == tensor.shape[0] else rows, 0).repeat_interleave(block, 1)
            want = (tensor.float() * spread[:tensor.shape[0], :tensor.shape[1]]).bfloat16()
        assert torch.equal(want.view(torch.int16), result.pop(name).view(torch.int16)), name
    assert not result, sorted(result)
    print(f"{codes} FP8 tensors of {len(source)} tensors: every bit as torch has it")


def answer(directory: str) -> None:
    import mlx.core as mx
    mx.set_default_device(mx.cpu)
    from mlx_lm import generate, load
    model, tokenizer = load(directory)
    prompt = tokenizer.apply_chat_template([{"role": "user", "content": QUESTION}], add_generation_prompt=True)
    print(generate(model, tokenizer, prompt, max_tokens=16))


if __name__ == "__main__":
    {"make": make, "compare": compare, "answer": answer}[sys.argv[1]](*sys.argv[2:])
