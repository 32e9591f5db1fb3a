"""FP8 checkpoints of any family: what is published, and its values.

A family's build function names its tensors once. Those that its release quantizes are published in
a dialect's form, and their values are kept beside it as the oracle dequantizes them; everything
else is published unchanged.
"""

import json
from pathlib import Path

import numpy as np
import oracle
from dialects import Dialect
from safetensors.numpy import save_file
from weights import BF16, CODES, F32

Tensors = dict[str, np.ndarray]


class Source:
    def __init__(self, dialect: Dialect, seed: int):
        self.dialect, self.rng = dialect, np.random.default_rng(seed)
        self.published, self.values = Tensors(), Tensors()

    def plain(self, name: str, *shape: int, dtype: type = BF16, mean: float = 0.0) -> None:
        self.published[name] = self.values[name] = self.rng.normal(mean, 0.25, shape).astype(dtype)

    def norms(self, prefix: str, dim: int, *names: str, mean: float = 1.0) -> None:
        for name in names:
            self.plain(f"{prefix}.{name}.weight", dim, mean=mean)

    def parameter(self, name: str, *shape: int) -> None:
        """A weight that the release quantizes, all codes but NaN, or a stack of such weights."""
        codes = self.rng.choice(CODES, shape)
        tensors, scales, block = self.dialect.publish(name, codes, self.rng)
        self.published |= tensors
        self.values[name] = oracle.dequantize(codes, scales, BF16, block)

    def linear(self, prefix: str, rows: int, cols: int, bias: bool = False) -> None:
        self.parameter(prefix + ".weight", rows, cols)
        if bias:
            self.plain(prefix + ".bias", rows)

    def mlp(self, prefix: str, hidden: int, inner: int, gate: str = "gate_proj", up: str = "up_proj", down: str = "down_proj") -> None:
        for name in (gate, up):
            self.linear(f"{prefix}.{name}", inner, hidden)
        self.linear(f"{prefix}.{down}", hidden, inner)

    def ends(self, config: dict, prefix: str = "model", embedding: str = "embed_tokens", norm: str = "norm", head: str = "lm_head",
             mean: float = 1.0) -> None:
        vocab, hidden = config["vocab_size"], config["hidden_size"]
        self.plain(f"{prefix}.{embedding}.weight", vocab, hidden)
        self.plain(f"{prefix}.{norm}.weight", hidden, mean=mean)
        if not config.get("tie_word_embeddings"):
            self.plain(f"{head}.weight", vocab, hidden)


def write(published: Tensors, config: dict, files: dict[str, str], directory: Path) -> Path:
    """Three shards: every other weight in the first and the second, all scales in the third."""
    directory.mkdir(parents=True)
    weight_map = {}
    for place, name in enumerate(published):
        number = 3 if "scale" in name.rsplit(".", 1)[-1] else 1 + place % 2
        weight_map[name] = f"model-{number:05d}-of-00003.safetensors"
    for shard in sorted(set(weight_map.values())):
        tensors = {name: tensor.copy() for name, tensor in published.items() if weight_map[name] == shard}  # in C order
        save_file(tensors, directory / shard, {"format": "pt"})
    index = {"metadata": {"total_size": sum(t.nbytes for t in published.values())}, "weight_map": weight_map}
    files = {"config.json": json.dumps(config, indent=2), oracle.INDEX: json.dumps(index, indent=2),
             "generation_config.json": json.dumps({"eos_token_id": [0, 1]}), **files}
    for name, text in files.items():
        (directory / name).write_text(text)
    return directory
