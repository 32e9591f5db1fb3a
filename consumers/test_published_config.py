"""config.json and generation_config.json beyond standard JSON: metalcast reads what Python's json
reads, and writes what Python reads as the same, in the one spelling that every consumer reads."""

import json
import math
from pathlib import Path

import mlx_lm.utils
import mlx_vlm.utils
import oracle
import outcomes
import pytest
from cases import Published
from checkpoints import write
from families import FAMILIES
from transformers import AutoConfig, GenerationConfig
from weights import Spec

LITERALS = {"Infinity": math.inf, "-Infinity": -math.inf, "NaN": math.nan}
SPEC = Spec(moe=False)

# Values of a key beside the others, or additional members.
READ = [
    *LITERALS, "[0.0, Infinity, {\"a\": [NaN]}]", "\n-Infinity\n", '"Infinity"', '"a \\" NaN, [-Infinity]"', "1e999", "-0", "1E+2", '"\\ud800"', '"\\udc00\\ud800"', '"\\ud83d\\ude00"',
    '"\x7f"', "9" * 4300, "12345678901234567890", '1, "x": 2', '2, "x": 2', '{"a": 1, "b": 2, "a": 3}', '[{"a": NaN, "a": 1}]', '1, "\\u0078": 2', '{"a": {"b": 1, "b": 2}, "a": {"b": 3}}', '{"Infinity": 1, "NaN": NaN}',
    '{"\\ud800": 1, "\\ud801": 2}', '{"a": 1, "a": {"a": 2, "a": NaN}}',
]
REFUSED = [
    "nan", "Inf", "inf", "+Infinity", "-NaN", "--Infinity", "NaNx", "Infinity1", "1Infinity", "infinity", "01", ".5", "1.", "[1,]", "1,", '"\\x41"', '"\t"', '"\x00"', '"\\u00"', "TRUE", "'a'", "1, NaN: 2", "9" * 4301,
    "1 // one", "NaN NaN", '1, "y" NaN',
]


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    return write(SPEC, tmp_path_factory.mktemp("config") / "source")


def with_config(source: Path, directory: Path, text: str, name: str = "config.json") -> Path:
    """The source with a different text; the rest is unchanged."""
    directory.mkdir()
    for path in source.iterdir():
        (directory / path.name).hardlink_to(path)
    (directory / name).unlink()
    (directory / name).write_text(text)
    return directory


def extended(source: Path, value: str) -> str:
    return (source / "config.json").read_text().replace("{", '{\n  "x": ' + value + ",", 1)


def same(a: object, b: object) -> bool:
    return json.dumps(a, sort_keys=True) == json.dumps(b, sort_keys=True)  # NaN too


@pytest.mark.parametrize("value", READ + REFUSED, ids=lambda v: ascii(v)[:40])
def test_what_python_reads_is_read(metalcast, source, tmp_path, value):
    text = extended(source, value)
    try:
        means = json.loads(text)
    except ValueError:
        means = None
    assert (means is None) == (value in REFUSED)
    directory = with_config(source, tmp_path / "source", text)
    if means is None:
        done = metalcast.run("convert", directory, tmp_path / "output", status=3)
        assert "config.json: " in done.stderr
        return
    for name, flags in {"auto": [], "mlx": ["--layout", "mlx"], "4bit": ["-q"]}.items():
        metalcast.run("convert", directory, tmp_path / name, *flags)
        written = (tmp_path / name / "config.json").read_text()
        found = json.loads(written)
        assert same(found.pop("x"), means["x"]), written
        assert json.loads(written, object_pairs_hook=oracle_pairs), "a key is there twice"
        metalcast.run("verify", directory, tmp_path / name)
    assert same(json.loads((tmp_path / "auto" / "config.json").read_text()), oracle.converted_config(means))
    for command in ("inspect", "plan"):
        json.loads(metalcast.run(command, directory, "--json").stdout, parse_constant=lambda name: pytest.fail(f"{command} --json has {name}"))


def oracle_pairs(pairs: list) -> dict:
    assert len(dict(pairs)) == len(pairs), [k for k, _ in pairs]
    return dict(pairs)


@pytest.mark.parametrize(("value", "warned"), [('1, "x": 2', '"x"'), ('2, "x": 2', None), ('{"a": 1, "b": 2, "a": 3}', '"x.a"'), ('[{"k": NaN, "k": 1}]', '"x.0.k"')])
def test_keys_that_are_there_twice_are_named(metalcast, source, tmp_path, value, warned):
    directory = with_config(source, tmp_path / "source", extended(source, value))
    for arguments in (("inspect", directory), ("plan", directory), ("convert", directory, tmp_path / "output")):
        done = metalcast.run(*arguments)
        assert (warned is not None) == ("more than once" in done.stdout + done.stderr)
        if warned:
            assert f"config.json has {warned} more than once" in done.stdout + done.stderr


def test_a_generation_config_is_read_so_too(metalcast, source, tmp_path):
    text = '{"eos_token_id": 7, "eos_token_id": [0, 5], "temperature": Infinity, "top_k": 1, "top_k": 1}'
    directory = with_config(source, tmp_path / "source", text, "generation_config.json")
    done = metalcast.run("convert", directory, tmp_path / "output", "--layout", "mlx")
    assert 'generation_config.json has "eos_token_id" more than once, as 7 and as [0, 5]; the last one counts' in done.stderr
    assert "top_k" not in done.stderr
    assert (tmp_path / "output" / "generation_config.json").read_text() == text
    assert json.loads((tmp_path / "output" / "config.json").read_text())["eos_token_id"] == [0, 5]
    assert mlx_lm.utils.load_config(tmp_path / "output")["eos_token_id"] == [0, 5]
    assert GenerationConfig.from_pretrained(tmp_path / "output").temperature == math.inf


def readers() -> dict:
    return {"mlx-lm": lambda d: mlx_lm.utils.load_config(d)["x"], "mlx-vlm": lambda d: mlx_vlm.utils.load_config(d)["x"], "transformers": lambda d: AutoConfig.from_pretrained(d).x}


@pytest.mark.parametrize("reader", readers())
@pytest.mark.parametrize("literal", LITERALS)
def test_the_spelling_that_metalcast_keeps_is_read_by_all(metalcast, source, tmp_path, reader, literal):
    directory = with_config(source, tmp_path / "source", extended(source, f"[0.0, {literal}]"))
    metalcast.run("convert", directory, tmp_path / "output")
    assert literal in (tmp_path / "output" / "config.json").read_text().replace('"x": [0.0,', "")
    assert same(readers()[reader](tmp_path / "output"), [0.0, LITERALS[literal]])


@pytest.mark.parametrize("reader", readers())
def test_transformers_own_spelling_is_not(source, tmp_path, reader):
    """Why the numbers do not become {"__float__": "Infinity"}: mlx-vlm passes models the object,
    and transformers that of a generation config."""
    directory = with_config(source, tmp_path / "source", extended(source, '{"__float__": "Infinity"}'))
    assert same(readers()[reader](directory), {"__float__": "Infinity"} if reader == "mlx-vlm" else math.inf)


def test_transformers_own_spelling_is_not_for_generation(tmp_path):
    (tmp_path / "generation_config.json").write_text('{"temperature": {"__float__": "Infinity"}}')
    assert GenerationConfig.from_pretrained(tmp_path).temperature == {"__float__": "Infinity"}


@pytest.mark.parametrize("limit", [*LITERALS, '{"__float__": "Infinity"}'])
def test_nemotron_loads_with_its_limit(metalcast, tmp_path, limit):
    """Its time_step_limit is [0.0, Infinity] in the releases."""
    family = FAMILIES["nemotron_h"]
    published = Published(family, family.variants[0])
    directory = published.write(tmp_path / "source")
    text = (directory / "config.json").read_text()
    (directory / "config.json").write_text(text.replace("{", '{"time_step_limit": [0.0, ' + limit + "],", 1))
    metalcast.run("convert", directory, tmp_path / "output")
    assert limit.strip("{}") in (tmp_path / "output" / "config.json").read_text()
    assert oracle.tensor_differences(published.parameters(), outcomes.loaded_by_mlx_lm(tmp_path / "output")) == []
    metalcast.run("verify", directory, tmp_path / "output")
