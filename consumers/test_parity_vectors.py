"""docs/parity-vectors matches exact arithmetic; ml_dtypes, MLX and metalcast agree with it; and its
reader detects each changed bit."""

import hashlib
import json
import re
import struct
import subprocess
import sys
from itertools import count
from pathlib import Path

import ml_dtypes
import mlx.core as mx
import numpy as np
import parity_vectors
import pytest
from oracle import read_shard

FOLDER = Path(__file__).parent.parent / "docs" / "parity-vectors"
VECTORS = FOLDER / "vectors.json"
sys.path.insert(0, str(FOLDER))
import reader  # noqa: E402

NUMPY = {"F8_E4M3": ml_dtypes.float8_e4m3fn, "F8_E8M0": ml_dtypes.float8_e8m0fnu, "BF16": ml_dtypes.bfloat16, "F16": np.float16, "F32": np.float32}
MLX = {"BF16": mx.bfloat16, "F16": mx.float16, "F32": mx.float32}
NAN = {"BF16": 0x7FC0, "F16": 0x7E00, "F32": 0x7FC00000}
FLAG = {"BF16": "bfloat16", "F16": "float16", "F32": "float32"}


def array(matrix: dict) -> np.ndarray:
    return np.frombuffer(matrix["data"], NUMPY[matrix["dtype"]]).reshape(matrix["shape"])


def bits(values: np.ndarray, dtype: str) -> bytes:
    """With NaNs replaced by the one in the file: libraries have others, of either sign."""
    words = np.where(np.isnan(values.astype(np.float32)), NAN[dtype], values.view(f"u{values.itemsize}"))
    return words.astype(f"<u{values.itemsize}").tobytes()


def dequantized(case: dict, dtype: str) -> np.ndarray:
    scales, codes = case["scales"], array(case["source"]).astype(np.float32)
    factors = array(scales).astype(np.float32)
    if scales["use"] == "divide":
        factors = np.float32(1) / factors
    row, column = (np.arange(n) // block for n, block in zip(codes.shape, scales["block"], strict=True))
    return (codes * factors[row[:, None], column]).astype(NUMPY[dtype])


def to_mlx(values: np.ndarray, dtype: str) -> mx.array:
    return mx.array(values.view(f"u{values.itemsize}")).view(MLX[dtype])


def from_mlx(a: mx.array) -> np.ndarray:
    a = mx.contiguous(a)
    return np.array(a.view(mx.uint16)).view(ml_dtypes.bfloat16) if a.dtype == mx.bfloat16 else np.array(a)


def by_libraries(case: dict, want: dict) -> dict | None:
    """Dequantizing and casts by numpy and ml_dtypes, the rest by MLX, whose Metal kernels do not
    run here."""
    dtype, source = want["dtype"], case["source"]
    match case["op"]:
        case "dequantize":
            return {"values": bits(dequantized(case, dtype), dtype)}
        case "cast":
            return {"values": bits(array(source).astype(np.float32).astype(NUMPY[dtype]), dtype)}
        case "add_one":
            return {"values": bits(from_mlx(to_mlx(array(source), dtype) + 1.0), dtype)}
    if want["profile"] == "metal":
        return None
    weights = to_mlx(array(source), source["dtype"]) if "scales" not in case else to_mlx(dequantized(case, "BF16"), "BF16").astype(MLX[dtype])
    parts = mx.quantize(weights, group_size=want["group_size"], bits=want["bits"], mode=want["mode"])
    return {name: from_mlx(part).tobytes() for name, part in zip(("codes", "scales", "biases"), parts)}


def results(**having) -> list[dict]:
    return [want for case in reader.load(VECTORS) for want in case["results"] if all(want.get(key) == x for key, x in having.items())]


def test_every_format_is_there():
    formats = {(want["dtype"], want["mode"], want["bits"], want["group_size"], want["profile"]) for want in results() if "mode" in want}
    kinds = {("affine", bits, size) for bits in (2, 3, 4, 5, 6, 8) for size in (32, 64, 128)} | {("mxfp4", 4, 32), ("mxfp8", 8, 32), ("nvfp4", 4, 16)}
    assert formats == {(dtype, *kind, profile) for dtype in MLX for kind in kinds for profile in ("metal", "cpu")}
    scales = {(case["scales"]["dtype"], case["scales"]["use"]) for case in reader.load(VECTORS) if "scales" in case}
    assert scales >= {*((dtype, "multiply") for dtype in ("F32", "BF16", "F16", "F8_E8M0")), ("F32", "divide"), ("BF16", "divide")}


def test_the_file_holds_what_exact_arithmetic_gives():
    assert parity_vectors.text(parity_vectors.document()) == VECTORS.read_text()


def test_bits_of_a_version_never_change():
    (known,) = re.findall(r"^\| (\d+) \| `([0-9a-f]{64})` \|$", (FOLDER / "README.md").read_text(), re.M)
    assert known == (str(parity_vectors.VERSION), hashlib.sha256(VECTORS.read_bytes()).hexdigest()), "another content is another version"
    assert reader.VERSION == parity_vectors.VERSION


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # overflow and NaN are intended
def test_ml_dtypes_and_mlx_agree():
    done, left, wrong = reader.check(by_libraries, VECTORS)
    assert wrong == []
    assert left == len(results(profile="metal")) > 60
    assert done == len(results()) - left


def test_metalcast_agrees(metalcast, tmp_path):
    numbers = count()

    def convert(case: dict, want: dict) -> dict | None:
        if case["op"] != "dequantize":
            return None
        directory = tmp_path / str(next(numbers))
        release, out = directory / "release", directory / "out"
        publish(case, release)
        metalcast.run("convert", release, out, "--dtype", FLAG[want["dtype"]], "--nan-policy", "keep", "--allow-overflow",
                      "--scales", "invert" if case["scales"]["use"] == "divide" else "trust")
        return {"values": read_shard(out / "model.safetensors")["m.weight"].tobytes()}

    done, _, wrong = reader.check(convert, VECTORS)
    assert wrong == []
    assert done == sum(len(case["results"]) for case in reader.load(VECTORS) if case["op"] == "dequantize") > 40


def publish(case: dict, directory: Path) -> None:
    """A checkpoint with one FP8 weight, written byte by byte, because libraries would convert E8M0
    to a type they know."""
    directory.mkdir(parents=True)
    header, data = {}, b""
    for name, matrix in (("m.weight", case["source"]), ("m.weight_scale_inv", case["scales"])):
        header[name] = {"dtype": matrix["dtype"], "shape": matrix["shape"], "data_offsets": [len(data), len(data) + len(matrix["data"])]}
        data += matrix["data"]
    head = json.dumps(header).encode()
    (directory / "model.safetensors").write_bytes(struct.pack("<Q", len(head)) + head + data)
    config = {"model_type": "parity_vectors", "quantization_config": {"quant_method": "fp8", "weight_block_size": case["scales"]["block"]}}
    (directory / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize("part", reader.PARTS)
@pytest.mark.parametrize("at", [0, -1], ids=["first bit", "last bit"])
def test_the_reader_sees_one_changed_bit(part, at):
    def convert(_, want):
        got = {name: bytearray(want[name]) for name in reader.PARTS if name in want}
        if part in got:
            got[part][at] ^= 0x80 if at else 1
        return got

    done, left, wrong = reader.check(convert, VECTORS)
    assert (done, left) == (len(results()), 0)
    assert len(wrong) == sum(part in want for want in results()) > 0
    assert all(f": {part}, element " in line for line in wrong)


def test_the_reader_sees_what_is_too_short_or_too_long():
    for change in (lambda b: b[:-1], lambda b: b + b"\0"):
        done, _, wrong = reader.check(lambda _, want: {p: change(want[p]) for p in reader.PARTS if p in want}, VECTORS)
        assert len(wrong) >= done == len(results())


def test_the_reader_refuses_another_version(tmp_path):
    other = tmp_path / "vectors.json"
    other.write_text(VECTORS.read_text().replace('"version": 1,', '"version": 2,', 1))
    with pytest.raises(ValueError, match="version 2, this reader knows 1"):
        reader.load(other)


def test_the_reader_is_short_and_prints_the_cases():
    assert len((FOLDER / "reader.py").read_text().splitlines()) <= 60
    assert VECTORS.stat().st_size < 200_000
    done = subprocess.run([sys.executable, "-I", FOLDER / "reader.py", VECTORS], capture_output=True, text=True, check=True)
    assert len(done.stdout.splitlines()) == len(reader.load(VECTORS)) > 30
