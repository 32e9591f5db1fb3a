"""Two quantized checkpoints, metalcast's and mlx_lm's, beside each other: every tensor, bit for bit, config.json as text, index, metadata, model card.

DIFFERENCES are the only ones that are meant. Each is a change to what mlx_lm writes; after all of them nothing may differ.
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import oracle
import yaml

BYTES = {"U8": 1, "BF16": 2, "F16": 2, "F32": 4, "U32": 4}
FORMAT = ("group_size", "bits", "mode")


@dataclass(frozen=True)
class Difference:
    name: str
    why: str
    change: Callable[[dict], dict]  # of mlx_lm's value of "quantization"


def entries(q: dict) -> dict:
    return {path: entry for path, entry in q.items() if path not in FORMAT}


def with_entries(q: dict, new: dict) -> dict:
    return {key: q[key] for key in FORMAT} | new


def with_mode(q: dict) -> dict:
    return with_entries(q, {path: entry and {**entry, "mode": entry.get("mode", "affine")} for path, entry in entries(q).items()})


def with_group(q: dict) -> dict:
    return with_entries(q, {path: entry and {**entry, "group_size": entry.get("group_size") or q["group_size"]} for path, entry in entries(q).items()})


def without_unquantized(q: dict) -> dict:
    return q


def natural(path: str) -> list:
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in re.findall(r"\d+|\D+", path)]


def in_order(q: dict) -> dict:
    by_path = sorted(entries(q).items(), key=lambda item: natural(item[0]))
    return with_entries(q, {path: entry and {key: entry[key] for key in FORMAT} for path, entry in by_path})


DIFFERENCES = [
    Difference("a module's entry has its mode", "mlx_lm leaves it out for routers, and then every loader takes affine; written out, it cannot be misread", with_mode),
    Difference("a recipe's entries have a number as group_size", "mlx_lm writes null where --q-group-size is not given; null means 64, and a number says so", with_group),
    Difference("entries are in natural order of their paths", "mlx_lm writes them in the order in which it walks the model; nothing depends on it", in_order),
]


def tensors(directory: Path) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    """Type, shape and bytes of each tensor in the shards that the index names, with a reader of its own."""
    found = {}
    for path in sorted(directory.glob("*.safetensors")):
        header, data = oracle.read_header(path)
        header.pop("__metadata__", None)
        for name, entry in header.items():
            begin, end = entry["data_offsets"]
            found[name] = entry["dtype"], tuple(entry["shape"]), data[begin:end]
    return found


def tensor_differences(theirs: dict, ours: dict) -> list[str]:
    found = [f"{name}: missing" for name in sorted(theirs.keys() - ours.keys())]
    found += [f"{name}: unexpected" for name in sorted(ours.keys() - theirs.keys())]
    for name in sorted(theirs.keys() & ours.keys()):
        (kind, shape, a), (our_kind, our_shape, b) = theirs[name], ours[name]
        if (kind, shape) != (our_kind, our_shape):
            found.append(f"{name}: {our_kind} {our_shape}, want {kind} {shape}")
        elif a != b:
            wide = BYTES[kind]
            count = sum(a[i:i + wide] != b[i:i + wide] for i in range(0, len(a), wide))
            found.append(f"{name}: {count} of {len(a) // wide} elements differ")
    return found


def expected_config(theirs: dict) -> dict:
    """What metalcast is to write where mlx_lm writes this."""
    quantization = theirs["quantization"]
    for difference in DIFFERENCES:
        quantization = difference.change(quantization)
    return {key: quantization if key.startswith("quantization") else value for key, value in theirs.items()}


def config_differences(theirs: Path, ours: Path) -> list[str]:
    """Whole texts: values, order of keys, indentation, escapes."""
    text = json.loads((theirs / "config.json").read_text())
    want, got = json.dumps(expected_config(text), indent=4), (ours / "config.json").read_text()
    if want == got:
        return []
    pairs = zip(want.splitlines(), got.splitlines())
    first = next((f"{a.strip()!r}, not {b.strip()!r}" for a, b in pairs if a != b), "one is longer")
    return [f"config.json: mlx_lm has {first}"]


def index_differences(theirs: Path, ours: Path) -> list[str]:
    """Totals, and which tensor is where. mlx_lm never makes two shards of so little, and metalcast names a single one in the same way."""
    want, got = (json.loads((directory / oracle.INDEX).read_text()) for directory in (theirs, ours))
    found = [f"index, {key}: {got['metadata'].get(key)}, want {value}" for key, value in want["metadata"].items() if got["metadata"].get(key) != value]
    if list(want["weight_map"].items()) != list(got["weight_map"].items()):
        found.append("index: another weight_map")
    if got["metadata"]["total_size"] != (size := sum(len(data) for _, _, data in tensors(ours).values())):
        found.append(f"index: total_size is {got['metadata']['total_size']}, the tensors have {size} bytes")
    return found


def metadata_differences(theirs: Path, ours: Path) -> list[str]:
    want, got = ({str(oracle.read_header(path)[0].get("__metadata__")) for path in directory.glob("*.safetensors")} for directory in (theirs, ours))
    return [] if want == got else [f"the shards' metadata is {got}, want {want}"]


def front_matter(directory: Path) -> dict:
    _, text, _ = (directory / "README.md").read_text().split("---\n", 2)
    return yaml.safe_load(text)


def card_differences(ours: Path) -> list[str]:
    """What Hugging Face's hub and the MLX community read in a card. mlx_lm's own, of a local source, says nothing else."""
    card = front_matter(ours)
    found = [f"README.md: {key} is {card.get(key)!r}" for key, value in (("library_name", "mlx"), ("pipeline_tag", "text-generation"))
             if card.get(key) != value]
    return found + ([] if "mlx" in card.get("tags", []) else ["README.md: no tag mlx"])


def differences(theirs: Path, ours: Path) -> list[str]:
    """Everything in which ours is not what mlx_lm writes, but for DIFFERENCES."""
    return [*tensor_differences(tensors(theirs), tensors(ours)), *config_differences(theirs, ours), *index_differences(theirs, ours),
            *metadata_differences(theirs, ours), *card_differences(ours)]
