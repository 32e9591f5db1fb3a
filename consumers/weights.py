"""The tensors of small FP8 checkpoints, with the true names and dialect of the Qwen3.5 families.

Weights have the variance of a fresh initialization, so that a model's logits are meaningful.
"""

from dataclasses import dataclass

import ml_dtypes
import numpy as np

BLOCK = 128
FP8, BF16, F32 = ml_dtypes.float8_e4m3fn, ml_dtypes.bfloat16, np.float32
CODES = np.delete(np.arange(256, dtype=np.uint8), (0x7F, 0xFF)).view(FP8)  # all but the NaNs
Tensors = dict[str, np.ndarray]


@dataclass(frozen=True)
class Spec:
    """The properties of a checkpoint. The defaults fill scale blocks exactly; ODD leaves partial
    blocks everywhere."""

    moe: bool = True
    fp8: bool = True
    scale: type = BF16
    flat: bool = False  # text-only config and names, as derivatives are published
    mtp: bool = False
    vision: bool = False
    activation_scales: bool = False
    scales_apart: bool = False  # three shards, the scales in the last
    hidden: int = 256
    vocab: int = 512
    layers: int = 4
    experts: int = 4
    intermediate: int = 128  # of an expert, or of the dense MLP
    shared: int = 128
    head_dim: int = 64
    linear_dim: int = 64
    seed: int = 0

    @property
    def prefix(self) -> str:
        return "model." if self.flat else "model.language_model."


ODD = {"hidden": 200, "vocab": 500, "intermediate": 136, "shared": 72, "head_dim": 40, "linear_dim": 40}
HEADS, KV_HEADS, LINEAR_K_HEADS, LINEAR_V_HEADS, CONV, TOP_K = 4, 2, 2, 4, 4, 2
VISION = {"depth": 2, "hidden_size": 32, "intermediate_size": 64, "num_heads": 2, "num_position_embeddings": 16,
          "in_channels": 3, "patch_size": 16, "spatial_merge_size": 2, "temporal_patch_size": 2}


class Builder:
    def __init__(self, spec: Spec):
        self.spec, self.rng, self.tensors = spec, np.random.default_rng(spec.seed), Tensors()

    def normal(self, *shape: int, std: float | None = None, mean: float = 0.0) -> np.ndarray:
        std = shape[-1] ** -0.5 if std is None else std
        return self.rng.normal(mean, std, shape).astype(F32)

    def plain(self, name: str, values: np.ndarray, dtype: type = BF16) -> None:
        self.tensors[name] = values.astype(dtype)

    def linear(self, name: str, rows: int, cols: int) -> None:
        """A weight that the release quantizes."""
        weight = self.normal(rows, cols)
        if not self.spec.fp8:
            self.plain(name + ".weight", weight)
            return
        codes, scales = quantize(weight, self.spec.scale)
        # codes that are rare in a fresh initialization: zeros of both signs, subnormals
        rare = self.rng.random(codes.shape) < 1 / 16
        codes[rare] = self.rng.choice(CODES, codes.shape)[rare]
        self.tensors[name + ".weight"], self.tensors[name + ".weight_scale_inv"] = codes, scales
        if self.spec.activation_scales:
            self.tensors[name + ".activation_scale"] = np.array(0.5, F32)

    def mlp(self, name: str, inner: int) -> None:
        hidden = self.spec.hidden
        for projection in ("gate_proj", "up_proj"):
            self.linear(f"{name}.{projection}", inner, hidden)
        self.linear(f"{name}.down_proj", hidden, inner)

    def self_attention(self, name: str) -> None:
        hidden, dim = self.spec.hidden, self.spec.head_dim
        self.linear(f"{name}.q_proj", 2 * HEADS * dim, hidden)  # queries and their gate
        self.linear(f"{name}.k_proj", KV_HEADS * dim, hidden)
        self.linear(f"{name}.v_proj", KV_HEADS * dim, hidden)
        self.linear(f"{name}.o_proj", hidden, HEADS * dim)
        for norm in ("q_norm", "k_norm"):
            self.plain(f"{name}.{norm}.weight", self.normal(dim, std=0.1))

    def linear_attention(self, name: str) -> None:
        hidden, dim = self.spec.hidden, self.spec.linear_dim
        key, value = LINEAR_K_HEADS * dim, LINEAR_V_HEADS * dim
        self.linear(f"{name}.in_proj_qkv", 2 * key + value, hidden)
        self.linear(f"{name}.in_proj_z", value, hidden)
        self.linear(f"{name}.out_proj", hidden, value)
        for projection in ("in_proj_a", "in_proj_b"):
            self.plain(f"{name}.{projection}.weight", self.normal(LINEAR_V_HEADS, hidden))
        self.plain(f"{name}.conv1d.weight", self.normal(2 * key + value, 1, CONV))
        self.plain(f"{name}.A_log", np.log(self.rng.uniform(1, 16, LINEAR_V_HEADS)), F32)
        self.plain(f"{name}.dt_bias", self.normal(LINEAR_V_HEADS, mean=1.0))
        self.plain(f"{name}.norm.weight", self.normal(dim, std=0.1, mean=1.0), F32)

    def layer(self, name: str, linear_attention: bool) -> None:
        spec = self.spec
        for norm in ("input_layernorm", "post_attention_layernorm"):
            self.plain(f"{name}.{norm}.weight", self.normal(spec.hidden, std=0.1))
        if linear_attention:
            self.linear_attention(f"{name}.linear_attn")
        else:
            self.self_attention(f"{name}.self_attn")
        if not spec.moe:
            self.mlp(f"{name}.mlp", spec.intermediate)
            return
        self.plain(f"{name}.mlp.gate.weight", self.normal(spec.experts, spec.hidden))
        self.plain(f"{name}.mlp.shared_expert_gate.weight", self.normal(1, spec.hidden))
        self.mlp(f"{name}.mlp.shared_expert", spec.shared)
        for expert in range(spec.experts):
            self.mlp(f"{name}.mlp.experts.{expert}", spec.intermediate)

    def mtp_head(self) -> None:
        self.layer("mtp.layers.0", linear_attention=False)
        self.plain("mtp.fc.weight", self.normal(self.spec.hidden, 2 * self.spec.hidden))
        for norm in ("norm", "pre_fc_norm_embedding", "pre_fc_norm_hidden"):
            self.plain(f"mtp.{norm}.weight", self.normal(self.spec.hidden, std=0.1))

    def biased(self, name: str, *shape: int, std: float | None = None, mean: float = 0.0) -> None:
        self.plain(f"{name}.weight", self.normal(*shape, std=std, mean=mean))
        self.plain(f"{name}.bias", self.normal(shape[0], std=0.1))

    def vision_tower(self) -> None:
        dim, inner, patch = VISION["hidden_size"], VISION["intermediate_size"], VISION["patch_size"]
        merged, root = dim * VISION["spatial_merge_size"] ** 2, "model.visual"
        self.biased(f"{root}.patch_embed.proj", dim, 3, VISION["temporal_patch_size"], patch, patch, std=0.03)
        self.plain(f"{root}.pos_embed.weight", self.normal(VISION["num_position_embeddings"], dim))
        for block in (f"{root}.blocks.{i}" for i in range(VISION["depth"])):
            for norm in ("norm1", "norm2"):
                self.biased(f"{block}.{norm}", dim, std=0.1, mean=1.0)
            for name, rows, cols in (("attn.qkv", 3 * dim, dim), ("attn.proj", dim, dim),
                                     ("mlp.linear_fc1", inner, dim), ("mlp.linear_fc2", dim, inner)):
                self.biased(f"{block}.{name}", rows, cols)
        self.biased(f"{root}.merger.norm", dim, std=0.1, mean=1.0)
        self.biased(f"{root}.merger.linear_fc1", merged, merged)
        self.biased(f"{root}.merger.linear_fc2", self.spec.hidden, merged)

    def build(self) -> Tensors:
        spec = self.spec
        self.plain(f"{spec.prefix}embed_tokens.weight", self.normal(spec.vocab, spec.hidden, std=1.0))
        self.plain(f"{spec.prefix}norm.weight", self.normal(spec.hidden, std=0.1))
        self.plain("lm_head.weight", self.normal(spec.vocab, spec.hidden))
        for index in range(spec.layers):
            self.layer(f"{spec.prefix}layers.{index}", linear_attention=(index + 1) % 4 != 0)
        if spec.mtp:
            self.mtp_head()
        if spec.vision:
            self.vision_tower()
        return self.tensors


def quantize(weight: np.ndarray, scale_type: type) -> tuple[np.ndarray, np.ndarray]:
    """Codes and block scales as the releases have them: the largest element of a block becomes
    448."""
    rows, cols = weight.shape
    codes = np.empty((rows, cols), FP8)
    scales = np.empty((-(-rows // BLOCK), -(-cols // BLOCK)), scale_type)
    for i, j in np.ndindex(scales.shape):
        block = np.s_[i * BLOCK:(i + 1) * BLOCK, j * BLOCK:(j + 1) * BLOCK]
        largest = np.abs(weight[block]).max() / 448
        scales[i, j] = largest if scale_type == BF16 else beside_a_tie(largest)
        codes[block] = (weight[block] / scales[i, j].astype(F32)).astype(FP8)
    return codes, scales


def beside_a_tie(scale: np.float32) -> np.float32:
    """The next scale whose product with 1.875 is so near the middle of two bf16 values that float32
    rounds it to the middle, from which ties-to-even goes the other way: rounding once and rounding
    twice differ."""
    code, upper = 1.875, int(F32(1.875 * scale).view(np.uint32)) >> 16
    while True:
        middle = float(np.uint32(upper << 16 | 0x8000).view(F32))
        scale = F32(middle / code)
        exact = code * float(scale)
        beyond = exact < middle if upper & 1 else exact > middle
        if beyond and float(F32(exact)) == middle:
            return scale
        upper += 1
