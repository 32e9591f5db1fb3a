"""Writes the acceptance table: what each consumer does with each family's FP8 checkpoint and with
metalcast's output for it.

    python consumers/compatibility.py docs/compatibility.md

METALCAST names another program than bin/metalcast. test_families.py asserts the outcomes.
transformers needs torch and is recorded by hand: transformers_check.py writes transformers.json,
which is quoted here.
"""

import importlib.metadata
import json
import logging
import os
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

import outcomes
from cases import CASES, SOURCES, Case
from shelf import Shelf

HERE = Path(__file__).parent
TEXT = """# What loads where

Made by `python consumers/compatibility.py docs/compatibility.md`; do not edit. Each row is a small
checkpoint with its family's true names and config, and FP8 weights in one dialect, made by
`consumers/`. metalcast converts it; the output is compared with a naive conversion in numpy and
then loaded strictly by the real consumers: every parameter of the loaded model, including norms and
MLA parts, is compared with an independent computation.

"equal (N)" means N tensors, with every name, type, shape and bit as expected. The layout `mlx` has
no vision tower, and is not for transformers. "as published" is what mlx-lm does with the FP8
checkpoint without metalcast. A small checkpoint's prediction layer (MTP) is not number 61, the one
that mlx-lm drops from deepseek_v3.

{versions}

{table}

## Where a consumer is wrong

{wrong}
"""
HEAD = ("family", "checkpoint", "as published, mlx-lm", "layout", "metalcast's output", "mlx-lm", "mlx-vlm", "transformers")


class NotConverted(Exception):
    """metalcast failed."""


class Tool:
    def __init__(self):
        self.path = os.environ.get("METALCAST", HERE.parent / "bin" / "metalcast")

    def run(self, *arguments: object) -> None:
        done = subprocess.run([self.path, *map(str, arguments)], capture_output=True, text=True, check=False)
        if done.returncode:
            raise NotConverted(f"not converted, exit {done.returncode}")


def recorded() -> dict:
    path = HERE / "transformers.json"
    return json.loads(path.read_text()) if path.exists() else {"versions": "transformers: not run", "published": {}, "converted": {}}


def results(shelf: Shelf, case: Case) -> list[str]:
    """The outcomes of the conversion, mlx-lm and mlx-vlm."""
    published = case.published
    checks = ((shelf.output, len(case.expected())), (shelf.mlx_lm, len(published.parameters())),
              (shelf.mlx_vlm, len(published.vlm_parameters(vision=case.layout == "auto"))))
    try:
        return [outcomes.outcome(lambda check=check: check(case), count) for check, count in checks]
    except NotConverted as error:
        return [str(error), "", ""]


def rows(shelf: Shelf, by_hand: dict) -> list[list[str]]:
    """The table's rows, without repeating what a row shares with the one above."""
    made, before = [], []
    for case in CASES:
        known = [case.family.name, case.published.variant.label, shelf.raw(case.published)]
        shown = known if known[:2] != before[:2] else ["", "", ""]
        made.append([*shown, case.layout, *results(shelf, case), by_hand["converted"].get(str(case), "")])
        before = known
    return made


REASONS = {
    "mlx-lm, ministral3": "mlx-lm takes the E4M3 byte as an integer and multiplies it by the scale",
    "mlx-lm, deepseek_v3": "mlx-lm takes the byte of a UE8M0 scale as an integer",
    "mlx-vlm, mistral4": "mlx-vlm's model has kv_b_proj whole, mlx-lm's has it split",
    "transformers, longcat_flash": "transformers' gate_up_proj has rows for the experts that do nothing too; its down_proj and the checkpoint do not",
    "transformers, minimax": "transformers knows a different model as `minimax`, the older MiniMax-Text-01",
    "transformers, qwen3_vl_moe": "transformers transposes experts only if their shape is not the one it wants, and here both shapes are the same",
    "transformers": "transformers splits rows and columns into as many equal parts as there are scales, 160 rows into 80 and 80, not into 128 and 32",
}
RAISES = "transformers raises if such parts would not be equal, 576 rows over 5 scales"


def why(name: str, result: str) -> str:
    return RAISES if "conversion" in result else next(REASONS[beginning] for beginning in REASONS if name.startswith(beginning))


def wrong(shelf: Shelf, by_hand: dict) -> list[str]:
    """Where a consumer is silently wrong about a checkpoint as published, and where it is wrong
    about output that others load correctly."""
    found = {f"mlx-lm, {published}, as published": shelf.raw(published) for published in SOURCES}
    found |= {f"transformers, {name}, as published": result for name, result in by_hand["published"].items()}
    found = {name: result for name, result in found.items() if "WRONG" in result and "missing" not in result and "unexpected" not in result}
    found |= {f"transformers, {name}, as published": result for name, result in by_hand["published"].items() if "conversion" in result}
    found |= {f"transformers, {name}": result for name, result in by_hand["converted"].items() if "WRONG" in result or "sizes" in result}
    found |= {f"mlx-vlm, {case}": "rejected" for case in CASES if case.layout in case.family.vlm_rejects}
    lines = []
    for reason in [*REASONS.values(), RAISES]:
        names = [name for name in found if why(name, found[name]) == reason]
        lines += [f"- {reason}:"] * bool(names) + [f"  - {name.partition(', ')[2]}: {found[name]}" for name in names]
    return lines


def wrapped(line: str) -> str:
    """Prose at 100 columns, an item of a list below its mark."""
    indent = " " * (len(line) - len(line.lstrip(" -")))
    return textwrap.fill(line, 100, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def text(shelf: Shelf) -> str:
    by_hand = recorded()
    table = [HEAD, ["---"] * len(HEAD), *rows(shelf, by_hand)]
    packages = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("mlx", "mlx-lm", "mlx-vlm"))
    return TEXT.format(versions=wrapped(f"With {packages} on the CPU; {by_hand['versions']}."),
                       table="\n".join("| " + " | ".join(cells) + " |" for cells in table), wrong="\n".join(map(wrapped, wrong(shelf, by_hand))))


if __name__ == "__main__":
    import mlx.core as mx
    mx.set_default_device(mx.cpu)
    logging.disable(logging.ERROR)  # mlx-vlm's, about what the table already says
    with tempfile.TemporaryDirectory() as root:
        Path(sys.argv[1]).write_text(text(Shelf(Tool(), Path(root))))
