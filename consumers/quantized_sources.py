"""Checkpoints to quantize: every family that has an MLX form, in sizes such that groups of 128, 64,
32 and 16 divide some rows and not others."""

import json
import re
from dataclasses import dataclass, replace
from pathlib import Path

import checkpoints
import numpy as np
import sources
from cases import Published
from dialects import BLOCK_F32
from families import FAMILIES, Variant
from families.qwen import build_spec, config as spec_config
from mapping import stacked
from weights import BF16, F32, Spec

NAMES = ("qwen3_5_moe", "qwen3_5", "qwen3_moe", "qwen3", "qwen3_next", "deepseek_v3", "kimi_k2", "glm4_moe", "minimax", "mistral4")
TYPES = {"bfloat16": BF16, "float16": np.float16, "float32": F32}
ABSENT = "absent"
CARD = "---\nlicense: apache-2.0\npipeline_tag: image-text-to-text\ntags:\n- fp8\n---\n# A model\n"


@dataclass(frozen=True)
class Sample:
    """A checkpoint: FP8 unless plain names a type. Hashable, so that results can be cached."""

    family: str
    sizes: str = "usual"  # or ragged, or deep
    settings: tuple[tuple[str, object], ...] = ()  # of the config, by dotted path; ABSENT: left out
    extra: str = "{}"  # more of the config, in JSON
    plain: str = ""  # bfloat16, float16 or float32: no FP8, all weights in this type
    stacked: bool = False  # the experts of a plain one
    f32: str = "^$"  # tensors that are published in F32
    eos: str = "[0, 1]"  # generation_config.json's; "": there is no such file
    head: bool = True  # lm_head is present, though the embeddings may be tied to it

    def __str__(self) -> str:
        parts = [self.family, self.sizes, *(f"{key}={value}" for key, value in self.settings), self.plain, "stacked" * self.stacked, self.f32.strip("^$")]
        return ", ".join(filter(None, parts))

    def published(self) -> Published:
        """In the dialect and with the structure of the family's first variant in the acceptance
        table."""
        family = FAMILIES[self.family]
        variant = family.variants[0]
        if self.family.startswith("qwen3_5"):
            spec = replace(SPECS[self.sizes], moe=self.family == "qwen3_5_moe")
            return Published(family, Variant(variant.dialect, spec_config(spec), self.sizes, build_spec(spec), whole=True))
        return Published(family, Variant(variant.dialect, variant.settings | sizes_of(self), self.sizes))

    def config(self) -> dict:
        config = self.published().config | json.loads(self.extra)
        if not self.plain:
            config["quantization_config"] = self.published().variant.dialect.config
        for path, value in self.settings:
            *outer, last = path.split(".")
            place = config
            for key in outer:
                place = place[key]
            place[last] = value
            if value == ABSENT:
                del place[last]
        return config

    def tensors(self) -> dict[str, np.ndarray]:
        built = self.published().build()
        tensors = built.published
        if self.plain:
            as_plain = {name: tensor.astype(F32).astype(TYPES[self.plain]) for name, tensor in built.values.items()}
            tensors = stacked()(as_plain) if self.stacked else as_plain
        if not self.head:
            tensors = {name: tensor for name, tensor in tensors.items() if "lm_head" not in name}
        return {name: tensor.astype(F32) if re.search(self.f32, name) else tensor for name, tensor in tensors.items()}

    def write(self, directory: Path) -> Path:
        sources.write(self.tensors(), self.config(), {"README.md": CARD}, directory)
        checkpoints.write_tokenizer(Spec(vocab=512), directory)
        if self.eos:
            (directory / "generation_config.json").write_text(json.dumps({"eos_token_id": json.loads(self.eos), "temperature": 0.6}))
        else:
            (directory / "generation_config.json").unlink()
        return directory


# A recipe gives more bits to layers at the ends and to every third one between; with nine layers
# all of that happens.
SPECS = {
    "usual": Spec(vision=True, mtp=True, intermediate=192, shared=72, experts=5),
    "ragged": Spec(hidden=192, intermediate=104, shared=128, head_dim=48, linear_dim=40, vocab=512),
    "deep": Spec(hidden=128, intermediate=64, shared=64, head_dim=32, linear_dim=32, layers=9, experts=2),
}
ATTENTION = {"usual": {"head_dim": 64, "hidden_size": 256}, "ragged": {"head_dim": 48, "hidden_size": 192},
             "deep": {"head_dim": 32, "hidden_size": 128, "num_hidden_layers": 9}}
MLA = {
    "usual": {"q_lora_rank": 96},  # nope is 64, so embed_q has no groups of 128
    "ragged": {"q_lora_rank": 72, "kv_lora_rank": 192, "qk_nope_head_dim": 48, "v_head_dim": 40, "hidden_size": 192},
    "deep": {"q_lora_rank": 64, "kv_lora_rank": 64, "qk_nope_head_dim": 32, "v_head_dim": 32, "qk_rope_head_dim": 32, "hidden_size": 128,
             "num_hidden_layers": 9},
}
INNER = {"usual": 192, "ragged": 104, "deep": 64}
SHARED = {"usual": 72, "ragged": 72, "deep": 64}
DENSE = {"usual": 328, "ragged": 328, "deep": 320}
EXPERTS = {"usual": 5, "ragged": 4, "deep": 2}


def sizes_of(sample: Sample) -> dict[str, object]:
    """Settings of the config by dotted path."""
    kind, family = sample.sizes, sample.family
    inner, experts = INNER[kind], EXPERTS[kind]
    match family:
        case "qwen3":
            return ATTENTION[kind] | {"intermediate_size": inner}
        case "qwen3_moe":
            return ATTENTION[kind] | {"moe_intermediate_size": inner, "num_experts": experts}
        case "qwen3_next":
            return ATTENTION[kind] | {"moe_intermediate_size": inner, "num_experts": experts, "shared_expert_intermediate_size": SHARED[kind]}
        case "glm4_moe":
            return ATTENTION[kind] | {"moe_intermediate_size": inner, "n_routed_experts": experts, "intermediate_size": DENSE[kind]}
        case "minimax":
            return ATTENTION[kind] | {"intermediate_size": inner, "num_local_experts": experts}
        case "mistral4":
            return {f"text_config.{key}": value for key, value in (
                MLA[kind] | {"moe_intermediate_size": inner, "n_routed_experts": experts} | head_size(MLA[kind])).items()}
    # mlx-lm itself could not handle layer 3
    prediction = {"num_nextn_predict_layers": 0} if family == "deepseek_v3" and sample.plain else {}
    return MLA[kind] | prediction | {"moe_intermediate_size": inner, "n_routed_experts": experts, "intermediate_size": DENSE[kind]}


def head_size(mla: dict) -> dict[str, int]:
    size = mla.get("qk_nope_head_dim", 64) + 32
    return {"head_dim": size, "qk_head_dim": size}


SAMPLES = [Sample(name, sizes) for name in NAMES for sizes in ("usual", "ragged")]
DEEP = [Sample(name, "deep") for name in NAMES]
