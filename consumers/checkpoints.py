"""Whole checkpoints: config, index, tokenizer, and shards written by the safetensors library.

Nothing here uses metalcast. The config is complete enough for mlx-lm, mlx-vlm and transformers to
build the model.
"""

import json
from pathlib import Path

from safetensors.numpy import save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from weights import BLOCK, CONV, HEADS, KV_HEADS, LINEAR_K_HEADS, LINEAR_V_HEADS, TOP_K, VISION, Builder, Spec


def config(spec: Spec) -> dict:
    family = "qwen3_5_moe" if spec.moe else "qwen3_5"
    architecture = "Qwen3_5Moe" if spec.moe else "Qwen3_5"
    rotary = spec.head_dim // 8  # half of a quarter of a head
    text = {
        "attention_bias": False, "dtype": "bfloat16", "eos_token_id": 0, "full_attention_interval": 4,
        "head_dim": spec.head_dim, "hidden_act": "silu", "hidden_size": spec.hidden,
        "layer_types": ["full_attention" if (i + 1) % 4 == 0 else "linear_attention" for i in range(spec.layers)],
        "linear_conv_kernel_dim": CONV, "linear_key_head_dim": spec.linear_dim, "linear_num_key_heads": LINEAR_K_HEADS,
        "linear_num_value_heads": LINEAR_V_HEADS, "linear_value_head_dim": spec.linear_dim,
        "max_position_embeddings": 4096, "model_type": family + "_text", "mtp_num_hidden_layers": int(spec.mtp),
        "num_attention_heads": HEADS, "num_hidden_layers": spec.layers, "num_key_value_heads": KV_HEADS,
        "rms_norm_eps": 1e-06, "tie_word_embeddings": False, "vocab_size": spec.vocab,
        "rope_parameters": {"mrope_interleaved": True, "mrope_section": [rotary - 2 * (rotary // 3), rotary // 3, rotary // 3],
                            "partial_rotary_factor": 0.25, "rope_theta": 10000000, "rope_type": "default"},
    }
    if spec.moe:
        text |= {"moe_intermediate_size": spec.intermediate, "num_experts": spec.experts, "num_experts_per_tok": TOP_K,
                 "shared_expert_intermediate_size": spec.shared}
    else:
        text |= {"intermediate_size": spec.intermediate}
    quantization = {"activation_scheme": "static" if spec.activation_scales else "dynamic", "fmt": "e4m3",
                    "modules_to_not_convert": ["lm_head"], "quant_method": "fp8", "weight_block_size": [BLOCK, BLOCK]}
    if spec.flat:
        whole = {"architectures": [architecture + "ForCausalLM"], **text}
    else:
        if spec.activation_scales and spec.fp8:
            text["quantization_config"] = quantization  # some releases repeat it here
        whole = {"architectures": [architecture + "ForConditionalGeneration"], "model_type": family,
                 "image_token_id": 10, "video_token_id": 11, "vision_start_token_id": 12, "vision_end_token_id": 13,
                 "text_config": text, "tie_word_embeddings": False, "torch_dtype": "bfloat16",
                 "vision_config": {"model_type": family, "out_hidden_size": spec.hidden, **VISION}}
    if spec.fp8:
        whole["quantization_config"] = quantization
    return whole | {"transformers_version": "5.0.0"}


def shard_of(spec: Spec, place: int, name: str) -> str:
    if not spec.scales_apart:
        return "model.safetensors"
    return f"model-{3 if name.endswith('_scale_inv') else 1 + place % 2:05d}-of-00003.safetensors"


def write_tokenizer(spec: Spec, directory: Path) -> None:
    tokenizer = Tokenizer(models.WordLevel({f"t{i}": i for i in range(spec.vocab)}, unk_token="t1"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(directory / "tokenizer.json"))
    settings = {"eos_token": "t0", "tokenizer_class": "PreTrainedTokenizerFast", "unk_token": "t1"}
    (directory / "tokenizer_config.json").write_text(json.dumps(settings))


def write(spec: Spec, directory: Path) -> Path:
    """Writes the checkpoint that spec describes and returns its directory."""
    directory.mkdir(parents=True)
    tensors = Builder(spec).build()
    weight_map = {name: shard_of(spec, place, name) for place, name in enumerate(tensors)}
    for shard in sorted(set(weight_map.values())):
        save_file({n: t for n, t in tensors.items() if weight_map[n] == shard}, directory / shard, {"format": "pt"})
    total = sum(t.nbytes for t in tensors.values())
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index, indent=2))
    (directory / "config.json").write_text(json.dumps(config(spec), indent=2) + "\n")
    (directory / "generation_config.json").write_text(json.dumps({"eos_token_id": 0}))
    write_tokenizer(spec, directory)
    return directory
