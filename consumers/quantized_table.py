"""Compares everything with mlx_lm.convert and writes into docs/quantization.md what was compared,
and where the two differ on purpose.

    python consumers/quantized_table.py docs/quantization.md

METALCAST names another program than bin/metalcast.
"""

import re
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

from compatibility import Tool
from quantized_compare import DIFFERENCES, differences, tensors
from quantized_reference import FORMATS, Workshop
from quantized_sources import NAMES, SAMPLES, Sample

MARKS = "<!-- {name}: made by consumers/quantized_table.py -->", "<!-- end of {name} -->"


def modules(directory: Path) -> tuple[int, int]:
    """The numbers of matrices and stacks that are quantized and not quantized."""
    written = tensors(directory)
    packed = {name.removesuffix(".scales") for name in written if name.endswith(".scales")}
    whole = [name for name, (_, shape, _) in written.items() if name.endswith(".weight") and len(shape) > 1 and "conv1d" not in name]
    return len(packed), len(whole) - len(packed)


def row(workshop: Workshop, name: str) -> str:
    usual, ragged = ("{} / {}".format(*modules(workshop.ours(Sample(name, sizes)))) for sizes in ("usual", "ragged"))
    compared = sum(sample.family == name for sample in SAMPLES) * len(FORMATS)
    return f"| {name} | {usual} | {ragged} | {compared} of {compared} |"


def table(workshop: Workshop) -> str:
    head = ["| family | quantized / not quantized, usual sizes, 4 bits in groups of 64 | ragged sizes | formats and sizes in which everything is equal |",
            "|---|---|---|---|"]
    packages = ", ".join(f"{package} {version(package)}" for package in ("mlx", "mlx-lm"))
    return "\n".join([f"With {packages}, on the CPU:", "", *head, *(row(workshop, name) for name in NAMES)])


def list_of_differences() -> str:
    return "\n".join(["| metalcast | mlx_lm |", "|---|---|", *(f"| {each.name} | {each.why} |" for each in DIFFERENCES)])


def with_part(text: str, name: str, part: str) -> str:
    begin, end = (mark.format(name=name) for mark in MARKS)
    return re.sub(f"{re.escape(begin)}.*{re.escape(end)}", lambda match: f"{begin}\n{part}\n{end}", text, flags=re.DOTALL)


def current(text: str, workshop: Workshop) -> str:
    """The document, with both parts regenerated."""
    return with_part(with_part(text, "comparison", table(workshop)), "differences", list_of_differences())


def main(path: Path) -> None:
    import mlx.core as mx
    mx.set_default_device(mx.cpu)
    with tempfile.TemporaryDirectory() as name:
        workshop = Workshop(Tool(), Path(name))
        for sample in SAMPLES:
            for form in FORMATS:
                found = differences(workshop.theirs(workshop.dequantized(sample), form), workshop.ours(sample, *form.flags()))
                if found:
                    sys.exit(f"{sample}, {form}: {found}")
        path.write_text(current(path.read_text(), workshop))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
