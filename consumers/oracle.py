"""The conversion exactly as defined, slowly: what metalcast's output must equal, bit for bit.

Its only ideas are: element (r, c) of an FP8 weight is multiplied in float32 by scale[r // 128, c //
128] and then rounded to the output type; experts of a layer are stacked, gate rows before up rows;
everything else keeps its bytes.
"""

import json
import re
import shutil
import struct
from dataclasses import dataclass
from pathlib import Path

import ml_dtypes
import numpy as np
from safetensors.numpy import save_file

BLOCK = 128
INDEX = "model.safetensors.index.json"
QUANTIZATION = "hf_quant_config.json"  # ModelOpt's; useless once nothing is quantized
DTYPES = {"F8_E4M3": ml_dtypes.float8_e4m3fn, "BF16": ml_dtypes.bfloat16, "F16": np.float16, "F32": np.float32}
OUTPUT = {"bfloat16": ml_dtypes.bfloat16, "float16": np.float16, "float32": np.float32}
EXPERT = re.compile(r"(.+\.mlp\.experts\.)(\d+)\.(gate|up|down)_proj\.weight")
STAYS_F32 = (".A_log", ".dt_bias")
STALE = ("quantization_config", "compression_config")
Tensors = dict[str, np.ndarray]


@dataclass(frozen=True)
class Options:
    """metalcast's options that change the output's tensors. Without dtype, FP8 becomes bfloat16 and
    everything else stays."""

    dtype: str | None = None
    stacked: bool = True
    keep_mtp: bool = False

    def flags(self) -> list[str]:
        return ([] if self.dtype is None else ["--dtype", self.dtype]) + \
            ([] if self.stacked else ["--layout", "per-expert"]) + (["--keep-mtp"] if self.keep_mtp else [])


def read_header(path: Path) -> tuple[dict, bytes]:
    data = path.read_bytes()
    (size,) = struct.unpack("<Q", data[:8])
    return json.loads(data[8:8 + size]), data[8 + size:]


def read_shard(path: Path) -> Tensors:
    """An independent reader for the format, which also requires that tensors fill the file without
    gap or overlap."""
    header, data = read_header(path)
    header.pop("__metadata__", None)
    tensors, end = Tensors(), 0
    for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        begin, stop = entry["data_offsets"]
        if begin != end:
            raise ValueError(f"{path.name}: {name} begins at {begin}, the tensor before it ends at {end}")
        end = stop
        raw = data[begin:stop]
        tensors[name] = np.frombuffer(raw, DTYPES[entry["dtype"]]).reshape(entry["shape"])
    if end != len(data):
        raise ValueError(f"{path.name}: {len(data)} bytes of tensors, the last one ends at {end}")
    return tensors


def read_checkpoint(directory: Path) -> Tensors:
    """All tensors in the shards that the index names, each from the shard it is mapped to."""
    weight_map = json.loads((directory / INDEX).read_text())["weight_map"]
    tensors = Tensors()
    for shard in sorted(set(weight_map.values())):
        for name, tensor in read_shard(directory / shard).items():
            if weight_map.get(name) != shard:
                raise ValueError(f"{name} is in {shard}, the index says {weight_map.get(name)}")
            tensors[name] = tensor
    if missing := weight_map.keys() - tensors.keys():
        raise ValueError(f"the index names tensors that no shard has: {sorted(missing)[:3]}")
    return tensors


def dequantize(codes: np.ndarray, scales: np.ndarray, dtype: type, block: tuple[int, int] = (BLOCK, BLOCK)) -> np.ndarray:
    """Dequantizes matrices, or stacks of them with a grid of scales for each."""
    row, col = np.arange(codes.shape[-2]) // block[0], np.arange(codes.shape[-1]) // block[1]
    spread = scales.astype(np.float32)[..., row[:, None], col]
    return (codes.astype(np.float32) * spread).astype(dtype)


def converted(source: Tensors, options: Options = Options()) -> Tensors:
    result, experts = Tensors(), {}
    for name, tensor in source.items():
        if name.startswith("mtp.") and not options.keep_mtp or name.endswith(("_scale_inv", "activation_scale")):
            continue
        if tensor.dtype == DTYPES["F8_E4M3"]:
            tensor = dequantize(tensor, source[name + "_scale_inv"], OUTPUT[options.dtype or "bfloat16"])
        elif options.dtype and not (tensor.dtype == np.float32 and name.endswith(STAYS_F32)):
            tensor = tensor.astype(np.float32).astype(OUTPUT[options.dtype])
        if options.stacked and (match := EXPERT.fullmatch(name)):
            group, expert, projection = match.groups()
            experts.setdefault(group, {})[int(expert), projection] = tensor
        else:
            result[name] = tensor
    for group, parts in experts.items():
        numbers = range(len(parts) // 3)
        gate_up = [np.concatenate([parts[e, "gate"], parts[e, "up"]]) for e in numbers]
        result[group + "gate_up_proj"] = np.stack(gate_up)
        result[group + "down_proj"] = np.stack([parts[e, "down"] for e in numbers])
    return result


def converted_config(config: dict, options: Options = Options(), model_type: str | None = None) -> dict:
    """The same config, in the same key order, without quantization, with the new type wherever a
    type was named, or else at the end."""
    kind = options.dtype or "bfloat16"

    def changed(part: dict) -> dict:
        new = {"dtype": kind, "torch_dtype": kind}
        return {key: changed(value) if key == "text_config" else new.get(key, value) for key, value in part.items() if key not in STALE}

    result = changed(config)
    if not any(key in part for key in ("dtype", "torch_dtype") for part in (config, config.get("text_config", {}))):
        result["dtype"] = kind
    return result | ({"model_type": model_type} if model_type else {})


def write_checkpoint(tensors: Tensors, config: dict, source: Path, directory: Path, form: str = "pt") -> Path:
    """Writes tensors and config beside copies of source's small files; returns directory."""
    directory.mkdir(parents=True)
    for file in source.iterdir():
        if file.suffix != ".safetensors" and file.name != QUANTIZATION:
            shutil.copy(file, directory)
    save_file(tensors, directory / "model.safetensors", {"format": form})
    index = {"metadata": {"total_size": sum(t.nbytes for t in tensors.values())},
             "weight_map": dict.fromkeys(tensors, "model.safetensors")}
    (directory / INDEX).write_text(json.dumps(index))
    (directory / "config.json").write_text(json.dumps(config))
    return directory


def convert(source: Path, directory: Path, options: Options = Options()) -> Path:
    config = converted_config(json.loads((source / "config.json").read_text()), options)
    return write_checkpoint(converted(read_checkpoint(source), options), config, source, directory)


def differing(want: np.ndarray, got: np.ndarray) -> int:
    """The number of elements whose bits differ; -0 and 0 differ, a NaN equals its own bits."""
    bits = f"u{want.itemsize}"
    return int(np.count_nonzero(np.ascontiguousarray(want).view(bits) != np.ascontiguousarray(got).view(bits)))


def tensor_differences(want: Tensors, got: Tensors) -> list[str]:
    found = [f"{name}: missing" for name in sorted(want.keys() - got.keys())]
    found += [f"{name}: unexpected" for name in sorted(got.keys() - want.keys())]
    for name in sorted(want.keys() & got.keys()):
        a, b = want[name], got[name]
        if (a.dtype, a.shape) != (b.dtype, b.shape):
            found.append(f"{name}: {b.dtype} {b.shape}, want {a.dtype} {a.shape}")
        elif count := differing(a, b):
            found.append(f"{name}: {count} of {a.size} elements differ")
    return found


def file_differences(source: Path, directory: Path, config: dict) -> list[str]:
    """Checks config (values and key order), the index's total and the files that are copied."""
    found = [f"{QUANTIZATION}: copied"] if (directory / QUANTIZATION).exists() else []
    if json.dumps(config) != json.dumps(json.loads((directory / "config.json").read_text())):
        found.append("config.json: differs in a value or in key order")
    total = json.loads((directory / INDEX).read_text())["metadata"]["total_size"]
    if total != (size := sum(t.nbytes for t in read_checkpoint(directory).values())):
        found.append(f"index: total_size is {total}, the tensors have {size} bytes")
    for file in source.iterdir():
        if file.suffix == ".safetensors" or file.name in (INDEX, "config.json", QUANTIZATION, "README.md"):
            continue
        if not (directory / file.name).exists() or (directory / file.name).read_bytes() != file.read_bytes():
            found.append(f"{file.name}: not copied as it is")
    return found


def differences(source: Path, directory: Path, options: Options = Options()) -> list[str]:
    """Every way in which directory differs from the conversion of source."""
    tensors = tensor_differences(converted(read_checkpoint(source), options), read_checkpoint(directory))
    config = converted_config(json.loads((source / "config.json").read_text()), options)
    return tensors + file_differences(source, directory, config)
