#!/usr/bin/env python3
"""Writes an FP8 checkpoint of any number of tensors in sparse files: headers are real, data are
holes. It takes hardly any disk space, and is for planning.

usage: sparse.py DST [TENSORS [SHARDS]]    default 200000 in 300
"""

import json
import struct
import sys
from pathlib import Path

# like Qwen3-30B-A3B, with more experts
HIDDEN, INTERMEDIATE, HEADS, KV_HEADS, HEAD, EXPERTS, VOCAB = 2048, 768, 32, 4, 128, 256, 151936
SIZES = {"F8_E4M3": 1, "BF16": 2}


def layer(n: int):
    """The tensors of a layer: name, type, shape."""
    for name, rows, cols in [("self_attn.q_proj", HEADS * HEAD, HIDDEN), ("self_attn.k_proj", KV_HEADS * HEAD, HIDDEN),
                             ("self_attn.v_proj", KV_HEADS * HEAD, HIDDEN), ("self_attn.o_proj", HIDDEN, HEADS * HEAD),
                             *((f"mlp.experts.{e}.{p}_proj", INTERMEDIATE, HIDDEN) for e in range(EXPERTS) for p in ("gate", "up")),
                             *((f"mlp.experts.{e}.down_proj", HIDDEN, INTERMEDIATE) for e in range(EXPERTS))]:
        yield f"model.layers.{n}.{name}.weight", "F8_E4M3", [rows, cols]
        yield f"model.layers.{n}.{name}.weight_scale_inv", "BF16", [-(-rows // 128), -(-cols // 128)]
    for name, shape in [("self_attn.q_norm", [HEAD]), ("self_attn.k_norm", [HEAD]), ("input_layernorm", [HIDDEN]),
                        ("post_attention_layernorm", [HIDDEN]), ("mlp.gate", [EXPERTS, HIDDEN])]:
        yield f"model.layers.{n}.{name}.weight", "BF16", shape


def write_shard(path: Path, tensors) -> None:
    header, at = {}, 0
    # wide types first, as the library writes them
    for name, dtype, shape in sorted(tensors, key=lambda t: (t[1] == "F8_E4M3", t[0])):
        size = SIZES[dtype]
        for dimension in shape:
            size *= dimension
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + at)


def main(dst: Path, tensors: int = 200_000, shards: int = 300) -> None:
    dst.mkdir()
    layers = max(1, tensors // sum(1 for _ in layer(0)))
    everything = [("model.embed_tokens.weight", "BF16", [VOCAB, HIDDEN]), ("lm_head.weight", "BF16", [VOCAB, HIDDEN]), ("model.norm.weight", "BF16", [HIDDEN])]
    for n in range(layers):
        everything.extend(layer(n))
    places, total = {}, 0
    for i in range(shards):
        part = everything[len(everything) * i // shards : len(everything) * (i + 1) // shards]
        file = f"model-{i + 1:05d}-of-{shards:05d}.safetensors"
        write_shard(dst / file, part)
        places |= {name: file for name, _, _ in part}
        total += (dst / file).stat().st_size
    (dst / "model.safetensors.index.json").write_text(json.dumps({"metadata": {"total_size": total}, "weight_map": places}))
    (dst / "config.json").write_text(json.dumps({
        "architectures": ["Qwen3MoeForCausalLM"], "model_type": "qwen3_moe", "torch_dtype": "bfloat16", "hidden_size": HIDDEN, "head_dim": HEAD,
        "intermediate_size": 3 * HIDDEN, "moe_intermediate_size": INTERMEDIATE, "num_attention_heads": HEADS, "num_key_value_heads": KV_HEADS, "num_experts": EXPERTS,
        "num_experts_per_tok": 8, "num_hidden_layers": layers, "decoder_sparse_step": 1, "mlp_only_layers": [], "norm_topk_prob": True, "vocab_size": VOCAB,
        "tie_word_embeddings": False, "hidden_act": "silu", "max_position_embeddings": 40960, "rms_norm_eps": 1e-6, "rope_theta": 1e6,
        "quantization_config": {"quant_method": "fp8", "fmt": "e4m3", "activation_scheme": "dynamic", "weight_block_size": [128, 128]}}, indent=2))
    print(f"{dst}: {len(everything):,} tensors in {shards} sparse shards, {total / 1e9:.0f} GB of which hardly any is on disk")


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:]))
