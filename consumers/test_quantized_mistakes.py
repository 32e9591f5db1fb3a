"""The comparison detects what a converter may get wrong."""

import json
import shutil

import pytest
import quantized_compare
from oracle import INDEX, read_header
from quantized_compare import FORMAT, QUANTIZATION, Asked
from quantized_reference import DEFAULT, workshop  # noqa: F401, a fixture
from quantized_sources import Sample

SAMPLE = Sample("qwen3_moe")
EXPERTS = "model.layers.0.mlp.switch_mlp.gate_proj"
ROUTER = "model.layers.0.mlp.gate"


@pytest.fixture
def copy(workshop, tmp_path):
    """A copy of metalcast's output to damage."""
    return shutil.copytree(workshop.ours(SAMPLE, *DEFAULT.flags()), tmp_path / "copy")


def found(workshop, copy) -> list[str]:
    return quantized_compare.differences(workshop.theirs(workshop.dequantized(SAMPLE)), copy)


def test_nothing_is_found_in_a_copy(workshop, copy):
    assert found(workshop, copy) == []


def place(path, name: str) -> tuple[int, int]:
    """Where a tensor's bytes are in a shard."""
    header, data = read_header(path)
    start = path.stat().st_size - len(data)
    begin, end = header[name]["data_offsets"]
    return start + begin, start + end


@pytest.mark.parametrize("part", ["weight", "scales", "biases"])
@pytest.mark.parametrize("bit", [0, 7])
@pytest.mark.parametrize("where", ["first", "last"])
def test_a_flipped_bit(workshop, copy, part, bit, where):
    path = copy / "model.safetensors"
    begin, end = place(path, f"{EXPERTS}.{part}")
    data = bytearray(path.read_bytes())
    data[begin if where == "first" else end - 1] ^= 1 << bit
    path.write_bytes(data)
    (line,) = found(workshop, copy)
    assert line.startswith(f"{EXPERTS}.{part}: 1 of ")


def edit_header(path, edit) -> None:
    data = path.read_bytes()
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8:8 + size])
    edit(header)
    text = json.dumps(header, separators=(",", ":")).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + size:])


def rename(path, names: dict[str, str]) -> None:
    def edit(header: dict) -> None:
        entries = {names.get(name, name): entry for name, entry in header.items()}
        header.clear()
        header.update(entries)

    edit_header(path, edit)


SWAPS = {
    "scales and biases": (f"{EXPERTS}.scales", f"{EXPERTS}.biases"),
    "gate and up": (f"{EXPERTS}.weight", EXPERTS.replace("gate", "up") + ".weight"),
    "keys and values": ("model.layers.0.self_attn.k_proj.weight", "model.layers.0.self_attn.v_proj.weight"),
}


@pytest.mark.parametrize("case", SWAPS)
def test_swapped(workshop, copy, case):
    one, other = SWAPS[case]
    rename(copy / "model.safetensors", {one: other, other: one})
    lines = found(workshop, copy)
    assert len(lines) == 2
    assert {line.split(":")[0] for line in lines} == {one, other}


def test_a_tensor_under_another_name(workshop, copy):
    rename(copy / "model.safetensors", {f"{EXPERTS}.scales": f"{EXPERTS}.scale"})
    assert found(workshop, copy)[:2] == [f"{EXPERTS}.scales: missing", f"{EXPERTS}.scale: unexpected"]


def test_another_type(workshop, copy):
    edit_header(copy / "model.safetensors", lambda header: header[f"{EXPERTS}.scales"].update(dtype="F16"))
    (line,) = found(workshop, copy)
    assert line.startswith(f"{EXPERTS}.scales: F16")


def change(key):
    """In both of the config's members."""
    def decorate(spoil):
        def whole(config: dict) -> None:
            for member in QUANTIZATION:
                spoil(config[member])
        return key, whole
    return decorate


def moved(q: dict) -> None:
    q[ROUTER] = q.pop(ROUTER)


CONFIGS = dict([
    change("an entry is missing")(lambda q: q.pop(ROUTER)),
    change("an entry is too many")(lambda q: q.update({EXPERTS: {key: q[key] for key in FORMAT}})),
    change("an entry has other bits")(lambda q: q[ROUTER].update(bits=4)),
    change("an entry has no mode")(lambda q: q[ROUTER].pop("mode")),
    change("an entry is false")(lambda q: q.update({ROUTER: False})),
    change("entries are out of order")(moved),
    change("other global bits")(lambda q: q.update(bits=8)),
    change("another global group size")(lambda q: q.update(group_size=32)),
    ("only one of both", lambda config: config.pop("quantization_config")),
    ("both differ", lambda config: config["quantization_config"].pop(ROUTER)),
    ("another end of text", lambda config: config.update(eos_token_id=7)),
    ("a key too many", lambda config: config.update(zzz=1)),
    ("FP8 is still said", lambda config: config.update(quantization_config={"quant_method": "fp8"})),
])


@pytest.mark.parametrize("case", CONFIGS)
def test_config(workshop, copy, case):
    config = json.loads((copy / "config.json").read_text())
    CONFIGS[case](config)
    (copy / "config.json").write_text(json.dumps(config, indent=4))
    assert found(workshop, copy)[0].startswith("config.json: ")


def test_config_in_other_clothes(workshop, copy):
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config, indent=2))
    assert found(workshop, copy) == ["config.json: not indented as mlx_lm does it"]


INDICES = {
    "total_size": lambda index: index["metadata"].update(total_size=1),
    "total_parameters": lambda index: index["metadata"].update(total_parameters=1),
    "weight_map": lambda index: index["weight_map"].pop(f"{EXPERTS}.scales"),
}


@pytest.mark.parametrize("case", INDICES)
def test_index(workshop, copy, case):
    index = json.loads((copy / INDEX).read_text())
    INDICES[case](index)
    (copy / INDEX).write_text(json.dumps(index))
    lines = found(workshop, copy)
    assert lines
    assert all(line.startswith("index") and case in line for line in lines)


def test_metadata(workshop, copy):
    edit_header(copy / "model.safetensors", lambda header: header["__metadata__"].update(format="pt"))
    (line,) = found(workshop, copy)
    assert line.startswith("the shards' metadata is ")


@pytest.mark.parametrize("line", ["library_name: mlx", "pipeline_tag: text-generation", "- mlx"])
def test_card(workshop, copy, line):
    text = (copy / "README.md").read_text()
    assert f"{line}\n" in text
    (copy / "README.md").write_text(text.replace(f"{line}\n", "", 1))
    (found_line,) = found(workshop, copy)
    assert found_line.startswith("README.md: ")


@pytest.mark.parametrize("name", ["generation_config.json", "tokenizer.json"])
def test_a_file_is_missing(workshop, copy, name):
    (copy / name).unlink()
    assert found(workshop, copy) == [f"{name}: missing"]


NEEDED = {  # a conversion that shows each difference
    "a module's entry has its mode": (SAMPLE, (), {}, Asked()),
    "an entry's group_size is a number": (SAMPLE, ("--quant-predicate", "mixed_3_4"), {"quant_predicate": "mixed_3_4"}, Asked()),
    "a module that an override leaves unquantized has the entry false": (
        SAMPLE, ("--q-override", "lm_head=none"), {"quant_predicate": lambda path, module: path != "lm_head" and (not path.endswith("mlp.gate") or EIGHT)},
        Asked(left=frozenset({"lm_head"}))),
    "entries are in natural order of their paths, with group_size, bits and mode in this order": (
        SAMPLE, ("--quant-predicate", "mixed_3_4"), {"quant_predicate": "mixed_3_4"}, Asked()),
    "rope_type of Qwen3.5's rope_parameters keeps its name": (Sample("qwen3_5"), (), {}, Asked()),
    "dtype and torch_dtype name the type of the weights": (SAMPLE, ("--dtype", "float16"), {"dtype": "float16"}, Asked(dtype="float16")),
}
EIGHT = {"group_size": 64, "bits": 8}


@pytest.mark.parametrize("difference", [each for each in quantized_compare.DIFFERENCES if each.name in NEEDED], ids=lambda each: each.name)
def test_each_difference_is_there(workshop, monkeypatch, difference):
    sample, flags, arguments, asked = NEEDED[difference.name]
    pair = workshop.theirs(workshop.dequantized(sample), **arguments), workshop.ours(sample, *flags)
    assert quantized_compare.config_differences(*pair, asked) == []
    monkeypatch.setattr(quantized_compare, "DIFFERENCES", [each for each in quantized_compare.DIFFERENCES if each is not difference])
    assert quantized_compare.config_differences(*pair, asked) != []


def test_all_of_them_are_tried():
    """Except one, which test_odd_texts_in_the_config covers, because it compares texts."""
    assert [each.name for each in quantized_compare.DIFFERENCES if each.name not in NEEDED] == [
        "non-ASCII text is written unescaped, and numbers as the source spells them"]
