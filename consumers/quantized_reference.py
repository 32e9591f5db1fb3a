"""What mlx_lm.convert itself writes, with each conversion made once for all tests that need it."""

import contextlib
import io
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import mlx.nn as nn
import pytest
from mlx_lm.convert import convert
from mlx_lm.utils import load_model
from quantized_sources import Sample
from shelf import Tool

AFFINE = [(bits, group) for bits in (2, 3, 4, 5, 6, 8) for group in (32, 64, 128)]


@dataclass(frozen=True)
class Format:
    """mlx_lm.convert's --q-mode, --q-bits and --q-group-size; 0 omits a flag."""

    mode: str = "affine"
    bits: int = 0
    group: int = 0

    def __str__(self) -> str:
        return f"{self.mode} {self.bits}/{self.group}" if self.bits else self.mode

    def flags(self) -> list[object]:
        bits = ["--q-bits", self.bits] if self.bits else []
        group = ["--q-group-size", self.group] if self.group else []
        return ["--q-mode", self.mode, *bits, *group]

    def arguments(self) -> dict:
        return {"q_mode": self.mode, "q_bits": self.bits or None, "q_group_size": self.group or None}


FORMATS = [Format("affine", *each) for each in AFFINE] + [Format(mode) for mode in ("mxfp4", "mxfp8", "nvfp4")]
DEFAULT = Format()


def nightly(everything: Sequence, *usual: object) -> list:
    """The part of everything that runs each time, or all of it if METALCAST_NIGHTLY is 1."""
    return list(everything) if os.environ.get("METALCAST_NIGHTLY") == "1" else list(usual)


def mlx_lm_convert(source: Path, directory: Path, **arguments) -> Path:
    """All of mlx_lm.convert, including tokenizer and model card, without its output."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        convert(str(source), str(directory), **arguments)
    return directory


def own_predicate(source: Path) -> Callable[[str, nn.Module], bool | dict]:
    """The predicate of the model that mlx_lm makes from source: its default behaviour."""
    model, _ = load_model(source, lazy=True)
    return getattr(model, "quant_predicate", None) or (lambda path, module: True)


def overriding(source: Path, overrides: list[tuple[str, bool | dict]]) -> Callable[[str, nn.Module], bool | dict]:
    """A quant_predicate equivalent to --q-override: the last pattern that matches wins."""
    otherwise = own_predicate(source)

    def predicate(path: str, module: nn.Module) -> bool | dict:
        fitting = [value for pattern, value in overrides if re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), path)]
        value = fitting[-1] if fitting else otherwise(path, module)
        return dict(value) if isinstance(value, dict) else value

    return predicate


@dataclass
class Workshop:
    """Its directories must not be written to."""

    tool: Tool
    root: Path
    kept: dict = field(default_factory=dict)

    def once(self, key: object, make: Callable[[Path], object]) -> Path:
        if key not in self.kept:
            directory = self.root / str(len(self.kept))
            self.kept[key] = directory
            make(directory)
        return self.kept[key]

    def source(self, sample: Sample) -> Path:
        return self.once(sample, sample.write)

    def dequantized(self, sample: Sample, *flags: object) -> Path:
        """test_families.py checks that it is right."""
        source = self.source(sample)
        return self.once((sample, *flags), lambda directory: self.tool.run("convert", source, directory, *flags))

    def native(self, sample: Sample) -> Path:
        """In MLX form, as mlx_lm.convert without -q writes it."""
        source = self.dequantized(sample)
        return self.once(("native", sample), lambda directory: mlx_lm_convert(source, directory))

    def ours(self, sample: Sample, *flags: object) -> Path:
        """metalcast convert -q, with the profile of the machine that runs this."""
        return self.ours_of(self.source(sample), *flags)

    def ours_of(self, source: Path, *flags: object) -> Path:
        return self.once(("ours", source, *flags), lambda directory: self.tool.run("convert", source, directory, "-q", "--q-profile", "cpu", *flags))

    def theirs(self, source: Path, form: Format = DEFAULT, quant_predicate=None, **arguments) -> Path:
        key = ("theirs", source, form, quant_predicate, *sorted(arguments.items()))
        arguments |= form.arguments() | ({"quant_predicate": quant_predicate} if quant_predicate else {})
        return self.once(key, lambda directory: mlx_lm_convert(source, directory, quantize=True, **arguments))


@pytest.fixture(scope="session")
def workshop(metalcast, tmp_path_factory) -> Workshop:
    return Workshop(metalcast, tmp_path_factory.mktemp("quantized"))
