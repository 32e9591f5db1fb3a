"""Compares two quantized checkpoints, metalcast's and mlx_lm's: every tensor, bit for bit,
config.json as text, index, metadata, model card.

DIFFERENCES lists the intended ones. Each is a change to what mlx_lm writes; after all of them
nothing may differ.
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

import oracle
from huggingface_hub import ModelCard

BYTES = {"U8": 1, "BF16": 2, "F16": 2, "F32": 4, "U32": 4}
FORMAT = ("group_size", "bits", "mode")
# the same twice: the second is what Hugging Face's hub reads
QUANTIZATION = ("quantization", "quantization_config")


@dataclass(frozen=True)
class Asked:
    """The options given to metalcast, as far as the differences depend on them."""

    left: frozenset[str] = frozenset()  # modules that an override leaves unquantized
    dtype: str = ""  # the type of the weights, where mlx_lm's config says another or none
    rope_type: str = "rope_type"  # what the source's config calls it


@dataclass(frozen=True)
class Difference:
    name: str
    why: str
    change: Callable[[dict, Asked], dict]  # of mlx_lm's config


def each_entry(change: Callable[[dict, dict], dict]) -> Callable[[dict, Asked], dict]:
    """A change to the entries of individual modules, given the global format."""
    def whole(config: dict, asked: Asked) -> dict:
        for key in QUANTIZATION:
            overall = config[key]
            config[key] = {name: change(value, overall) if name not in FORMAT else value for name, value in overall.items()}
        return config
    return whole


def with_left_out(config: dict, asked: Asked) -> dict:
    for key in QUANTIZATION:
        config[key] |= dict.fromkeys(asked.left, False)
    return config


def in_order(config: dict, asked: Asked) -> dict:
    def place(path: str) -> tuple:
        return (-1, FORMAT.index(path)) if path in FORMAT else (0, [(0, int(part), "") if part.isdigit() else (1, 0, part)
                                                                   for part in re.findall(r"\d+|\D+", path)])

    for key in QUANTIZATION:
        config[key] = {path: config[key][path] for path in sorted(config[key], key=place)}
    return config


def with_rope_type(config: dict, asked: Asked) -> dict:
    for part in (config, config.get("text_config", {})):
        rope = part.get("rope_parameters") or {}
        if part.get("model_type", "").startswith("qwen3_5") and "type" in rope:
            rope[asked.rope_type] = rope.pop("type")
    return config


def with_dtype(config: dict, asked: Asked) -> dict:
    if not asked.dtype:
        return config
    parts, keys = [part for part in (config, config.get("text_config")) if part], ("dtype", "torch_dtype")
    for part in parts:
        part |= {key: asked.dtype for key in keys if key in part}
    if not any(key in part for part in parts for key in keys):
        config["dtype"] = asked.dtype
    return dict(sorted(config.items()))


DIFFERENCES = [
    Difference("a module's entry has its mode", "mlx_lm omits it from its routers' entries, where every loader then assumes affine; written out, it cannot be misread",
               each_entry(lambda entry, overall: entry and {"mode": "affine"} | entry)),
    Difference("an entry's group_size is a number", "mlx_lm writes null in a recipe's entries if --q-group-size is not given; MLX takes null as 64",
               each_entry(lambda entry, overall: entry and entry | {"group_size": entry["group_size"] or overall["group_size"]})),
    Difference("a module that an override leaves unquantized has the entry false", "mlx_lm omits it, so older releases have to look at the tensors; false is explicit, and all releases understand it",
               with_left_out),
    Difference("entries are in natural order of their paths, with group_size, bits and mode in this order", "mlx_lm has them in the order in which it walks the model; nothing depends on the order",
               lambda config, asked: in_order(each_entry(lambda entry, overall: entry and {key: entry[key] for key in FORMAT if key in entry})(config, asked), asked)),
    Difference("rope_type of Qwen3.5's rope_parameters keeps its name", "mlx_lm renames it to type in the config that it reads, accidentally writes that, and reads both; transformers reads rope_type",
               with_rope_type),
    Difference("dtype and torch_dtype name the type of the weights", "mlx_lm casts the tensors and leaves the config unchanged; if that names another type, or none, "
               "the next program to trust it casts again or fails", with_dtype),
    Difference("non-ASCII text is written unescaped, and numbers as the source spells them", "mlx_lm escapes the text and respells the numbers; to a JSON reader both are the same",
               lambda config, asked: config),
]


def tensors(directory: Path) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    """Type, shape and bytes of each tensor in the shards that the index names, with an independent
    reader."""
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


def expected_config(theirs: dict, asked: Asked = Asked()) -> dict:
    """What metalcast must write if mlx_lm writes this."""
    for difference in DIFFERENCES:
        theirs = difference.change(theirs, asked)
    return theirs


def lines(config: dict) -> list[str]:
    """As json.dump writes it; the order of keys matters except where mlx_lm renames one."""
    for part in (config, config.get("text_config", {})):
        if isinstance(rope := part.get("rope_parameters"), dict):
            part["rope_parameters"] = dict(sorted(rope.items()))
    return json.dumps(config, indent=4).splitlines()


def config_differences(theirs: Path, ours: Path, asked: Asked = Asked()) -> list[str]:
    """Values, order of keys and indentation."""
    text = (ours / "config.json").read_text()
    spellings = [json.dumps(json.loads(text), indent=4, ensure_ascii=ascii_) for ascii_ in (True, False)]  # texts keep that of their source
    if text not in spellings:
        return ["config.json: not indented as mlx_lm does it"]
    want, got = lines(expected_config(json.loads((theirs / "config.json").read_text()), asked)), lines(json.loads(text))
    return [f"config.json: {b.strip()}, want {a.strip()}" for a, b in zip_longest(want, got, fillvalue="the end") if a != b][:3]


def index_differences(theirs: Path, ours: Path) -> list[str]:
    """Totals, and each tensor's shard. mlx_lm never makes two shards from so little data, and
    metalcast names a single one in the same way."""
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


def card(directory: Path) -> dict:
    return ModelCard.load(directory / "README.md").data.to_dict()


def card_differences(theirs: Path, ours: Path) -> list[str]:
    """What mlx_lm sets in a card's front matter. For a local source that is nothing but a language,
    for one from the hub everything in the source's."""
    want, got = card(theirs), card(ours)
    found = [f"README.md: {key} is {got.get(key)!r}, want {want.get(key)!r}" for key in ("library_name", "pipeline_tag", "base_model")
             if got.get(key) != want.get(key)]
    return found + [f"README.md: no tag {tag}" for tag in want["tags"] if tag not in got.get("tags", [])]


def file_differences(theirs: Path, ours: Path) -> list[str]:
    """Nothing that mlx_lm writes is missing. It saves tokenizers again, and copies
    generation_config.json."""
    found = [f"{name}: missing" for name in sorted({path.name for path in theirs.iterdir()} - {path.name for path in ours.iterdir()})]
    want, got = (directory / "generation_config.json" for directory in (theirs, ours))
    return found + (["generation_config.json: differs"] if want.exists() and got.exists() and want.read_bytes() != got.read_bytes() else [])


def differences(theirs: Path, ours: Path, asked: Asked = Asked()) -> list[str]:
    """Every way in which ours differs from what mlx_lm writes, except for DIFFERENCES."""
    return [*tensor_differences(tensors(theirs), tensors(ours)), *config_differences(theirs, ours, asked), *index_differences(theirs, ours),
            *metadata_differences(theirs, ours), *card_differences(theirs, ours), *file_differences(theirs, ours)]
