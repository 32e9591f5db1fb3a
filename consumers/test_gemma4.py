"""gemma4's mixtures of experts, which quantizers split, are stacked again: bit for bit as computed
here, and as mlx-lm loads them."""

import json
from pathlib import Path

import numpy as np
import oracle
import pytest
from mlx_lm.utils import load_model
from safetensors.numpy import save_file
from weights import BF16, CODES, F32

HIDDEN, VOCAB, LAYERS, EXPERTS, INNER, DENSE, HEAD = 64, 48, 2, 3, 24, 40, 32
TEXT = {
    "model_type": "gemma4_text", "hidden_size": HIDDEN, "num_hidden_layers": LAYERS, "intermediate_size": DENSE, "num_attention_heads": 2, "head_dim": HEAD,
    "global_head_dim": HEAD, "vocab_size": VOCAB, "num_key_value_heads": 1, "num_kv_shared_layers": 0, "hidden_size_per_layer_input": 0, "enable_moe_block": True,
    "num_experts": EXPERTS, "top_k_experts": 2, "moe_intermediate_size": INNER, "layer_types": ["sliding_attention", "full_attention"], "use_double_wide_mlp": False,
}
CONFIG = {
    "model_type": "gemma4", "architectures": ["Gemma4ForConditionalGeneration"], "vocab_size": VOCAB, "tie_word_embeddings": True, "text_config": TEXT,
    "quantization_config": {"quant_method": "compressed-tensors", "format": "float-quantized"},
}
NORMS = ("input_layernorm", "post_attention_layernorm", "pre_feedforward_layernorm", "post_feedforward_layernorm", "post_feedforward_layernorm_1",
         "post_feedforward_layernorm_2", "pre_feedforward_layernorm_2")


def checkpoint(infix: str) -> tuple[dict, dict]:
    """The published tensors and their values: a scale per row, experts as Google publishes them."""
    rng = np.random.default_rng(5)
    published, want = {}, {}

    def plain(name: str, *shape: int) -> None:
        published[name] = want[name] = rng.normal(0, 0.1, shape).astype(BF16)

    def rows(name: str, out: int, size: int) -> np.ndarray:
        codes, scales = rng.choice(CODES, (out, size)), rng.uniform(0.001, 0.01, (out, 1)).astype(BF16)
        published[name + ".weight"], published[name + ".weight_scale"] = codes, scales
        return (codes.astype(F32) * scales.astype(F32)).astype(BF16)

    plain("model.language_model.embed_tokens.weight", VOCAB, HIDDEN)
    plain("model.language_model.norm.weight", HIDDEN)
    for layer in range(LAYERS):
        prefix = f"model.language_model.layers.{layer}."
        for norm in NORMS:
            plain(f"{prefix}{norm}.weight", HIDDEN)
        plain(prefix + "layer_scalar", 1)
        plain(prefix + "self_attn.q_norm.weight", HEAD)
        plain(prefix + "self_attn.k_norm.weight", HEAD)
        plain(prefix + "router.proj.weight", EXPERTS, HIDDEN)
        plain(prefix + "router.scale", HIDDEN)
        plain(prefix + "router.per_expert_scale", EXPERTS)
        for name, out, size in (("self_attn.q_proj", 2 * HEAD, HIDDEN), ("self_attn.k_proj", HEAD, HIDDEN), ("self_attn.v_proj", HEAD, HIDDEN),
                                ("self_attn.o_proj", HIDDEN, 2 * HEAD), ("mlp.gate_proj", DENSE, HIDDEN), ("mlp.up_proj", DENSE, HIDDEN), ("mlp.down_proj", HIDDEN, DENSE)):
            want[f"{prefix}{name}.weight"] = rows(prefix + name, out, size)
        parts = [[rows(f"{prefix}{infix}{e}.{name}", out, size) for e in range(EXPERTS)]
                 for name, out, size in (("gate_proj", INNER, HIDDEN), ("up_proj", INNER, HIDDEN), ("down_proj", HIDDEN, INNER))]
        gate, up, down = map(np.stack, parts)
        want[prefix + "experts.gate_up_proj"] = np.concatenate([gate, up], axis=1)
        want[prefix + "experts.down_proj"] = down
    return published, want


@pytest.mark.parametrize("infix", ["experts.", "moe.experts."])
def test_experts_are_stacked(metalcast, tmp_path: Path, infix: str):
    published, want = checkpoint(infix)
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    save_file(published, source / "model.safetensors", {"format": "pt"})
    (source / "config.json").write_text(json.dumps(CONFIG))
    said = metalcast.run("convert", source, target, "--device", "cpu", "--verify").stderr
    assert oracle.tensor_differences(want, oracle.read_checkpoint(target)) == []
    load_model(target, strict=True)
    assert "next:" in said
