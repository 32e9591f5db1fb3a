"""Runs the commands that hints suggest: one that fails is a bug in metalcast. There is a source for
each family, for -q and --layout mlx, which metalcast does not write for all."""

import importlib
import re
import shlex

import pytest
from families import FAMILIES

# whose name in the package is that of its function
MLX_LM = importlib.import_module("mlx_lm.convert")
COMMAND = re.compile(r"(?:metalcast|mlx_lm\.convert) [^\n]*")


def hint(stderr: str) -> str:
    lines = [line.removeprefix("metalcast: hint: ") for line in stderr.splitlines() if line.startswith("metalcast: hint: ")]
    return lines[0] if lines else ""


def run(tool, line: str) -> None:
    """Runs the commands of a hint, joined by "&&"; those of mlx_lm in this process, which takes a
    tenth of the time."""
    for command in line.split(" && "):
        program, *arguments = shlex.split(command)
        if program == "metalcast":
            tool.run(*arguments)
            continue
        assert program == "mlx_lm.convert"
        options = MLX_LM.configure_parser().parse_args(arguments)
        MLX_LM.convert(options.hf_path, options.mlx_path, quantize=options.quantize)


@pytest.mark.parametrize("flags", [("-q",), ("--layout", "mlx")], ids=" ".join)
# the others are written in one step
@pytest.mark.parametrize("name", [name for name, family in FAMILIES.items() if not family.mlx])
def test_what_a_hint_says_works(metalcast, tmp_path, monkeypatch, name, flags):
    monkeypatch.chdir(tmp_path)
    metalcast.run("synth", "source", "--family", name)
    trust = ["--scales", "trust"] if name == "mimo_v2_flash" else []
    done = metalcast.run("convert", "source", "out", *flags, *trust, status=4)
    if name == "llama4":  # which mlx_lm.convert does not accept, and metalcast says so
        assert "mlx_lm.convert does not do it either" in hint(done.stderr)
        metalcast.run("convert", "source", "out")
        with pytest.raises(Exception, match="attn_temperature_tuning"):
            run(metalcast, "mlx_lm.convert --hf-path out --mlx-path quantized -q")
        return
    commands = COMMAND.search(hint(done.stderr))
    assert commands, done.stderr
    run(metalcast, commands[0])
    assert (tmp_path / "out" / "config.json").exists()


def test_mlx_lm_needs_the_tokenizer_that_metalcast_misses(metalcast, tmp_path):
    metalcast.run("synth", tmp_path / "source", "--family", "qwen3_moe")
    (tmp_path / "source" / "tokenizer.json").unlink()
    done = metalcast.run("convert", tmp_path / "source", tmp_path / "out", "--dtype", "float32")
    assert "mlx_lm.generate needs one" in done.stderr
    with pytest.raises(ValueError):
        generate(tmp_path / "out")
    metalcast.run("synth", tmp_path / "with", "--family", "qwen3_moe")
    done = metalcast.run("convert", tmp_path / "with", tmp_path / "usable", "--dtype", "float32")
    assert "tokenizer" not in done.stderr
    generate(tmp_path / "usable")


def generate(path) -> None:
    import mlx_lm

    model, tokenizer = mlx_lm.load(str(path))
    mlx_lm.generate(model, tokenizer, prompt="Hello", max_tokens=1)
