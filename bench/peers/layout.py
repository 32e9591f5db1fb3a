"""What the torch and mlx peers share: which tensors make which, in the order of the layers, and the
files around them."""

import json
import re
import shutil
from pathlib import Path

EXPERT = re.compile(r"(.*\.experts)\.(\d+)\.(gate|up|down)_proj\.weight$")
SHARD = 1 << 30  # what is held before it is written: a quarter of a release's shard, to save memory


def weight_map(src: Path) -> dict[str, str]:
    return json.loads((src / "model.safetensors.index.json").read_text())["weight_map"]


def outputs(names) -> list[tuple[str, list[list[str]]]]:
    """Each output tensor with its sources: one list for an unchanged tensor; for a stack one list
    per expert, of gate and up or of down."""
    made: dict[str, dict[int, list[str]]] = {}
    for name in sorted(names, key=lambda n: [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", n)]):
        if name.endswith("_scale_inv"):
            continue
        if not (m := EXPERT.match(name)):
            made[name] = {0: [name]}
            continue
        stack, expert, projection = m[1], int(m[2]), m[3]
        output = f"{stack}.down_proj" if projection == "down" else f"{stack}.gate_up_proj"
        parts = made.setdefault(output, {}).setdefault(expert, [])
        parts.insert(0 if projection == "gate" else len(parts), name)
    return [(name, [parts[e] for e in sorted(parts)]) for name, parts in made.items()]


class Writer:
    """Collects tensors and saves a shard whenever there are enough."""

    def __init__(self, dst: Path, save):
        self.dst, self.save = dst, save
        self.held, self.size, self.places, self.shard = {}, 0, {}, 0
        dst.mkdir()

    def add(self, name: str, tensor) -> None:
        self.held[name] = tensor
        self.size += tensor.nbytes
        if self.size >= SHARD:
            self.flush()

    def flush(self) -> None:
        if not self.held:
            return
        self.shard += 1
        file = f"model-{self.shard:05d}.safetensors"
        self.save(self.held, str(self.dst / file))
        self.places |= dict.fromkeys(self.held, file)
        self.held, self.size = {}, 0

    def finish(self, src: Path) -> None:
        self.flush()
        (self.dst / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": self.places}))
        for path in src.iterdir():
            if path.suffix != ".safetensors" and path.name != "model.safetensors.index.json":
                shutil.copy(path, self.dst)
        config = json.loads((src / "config.json").read_text())
        config.pop("quantization_config", None)
        config.get("text_config", {}).pop("quantization_config", None)
        (self.dst / "config.json").write_text(json.dumps(config, indent=2))
