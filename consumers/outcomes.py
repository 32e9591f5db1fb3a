"""Outcomes for a directory: metalcast's output compared with the oracle's, and what each consumer
does with it.

Every outcome is a short text that depends only on the case, the program and the consumers'
versions. "equal" in it means every name, type, shape and bit.
"""

import re
from collections.abc import Callable
from pathlib import Path

import mlx.core as mx
import mlx_lm.utils
import mlx_vlm.utils
import numpy as np
import oracle
from cases import Case, Published, without_prefix
from mlx.utils import tree_flatten
from sources import Tensors
from weights import BF16, F32

LOADING_ERRORS = (ValueError, KeyError, TypeError, RuntimeError, IndexError, AttributeError)


def as_numpy(array: mx.array) -> np.ndarray:
    return np.array(array.view(mx.uint16)).view(BF16) if array.dtype == mx.bfloat16 else np.array(array)


def loaded_by_mlx_lm(directory: Path) -> Tensors:
    model, _ = mlx_lm.utils.load_model(directory, strict=True)
    return {name: as_numpy(array) for name, array in tree_flatten(model.parameters())}


def loaded_by_mlx_vlm(directory: Path) -> Tensors:
    """It is strict by default, except that it drops a vision tower that has no tensors."""
    model = mlx_vlm.utils.load_model(directory)
    return without_prefix({name: as_numpy(array) for name, array in tree_flatten(model.parameters())})


def output_differences(case: Case, source: Path, directory: Path) -> list[str]:
    """Compares the directory's files with what the case expects: tensors, config, copied files."""
    found = oracle.tensor_differences(case.expected(), oracle.read_checkpoint(directory))
    kinds = {oracle.read_header(path)[0].get("__metadata__", {}).get("format") for path in directory.glob("*.safetensors")}
    if kinds != {want := "mlx" if case.layout == "mlx" else "pt"}:
        found.append(f"the shards' format is {kinds}, want {want}")
    return found + oracle.file_differences(source, directory, case.expected_config(source))


def mlx_lm_differences(case: Case, directory: Path) -> list[str]:
    return oracle.tensor_differences(case.published.parameters(), loaded_by_mlx_lm(directory))


def mlx_vlm_differences(case: Case, directory: Path) -> list[str]:
    want = case.published.vlm_parameters(vision=case.layout == "auto")
    return oracle.tensor_differences(want, loaded_by_mlx_vlm(directory))


def reason(error: Exception) -> str:
    """The beginning of an error's text, short enough for a table."""
    text = re.sub(r";.*|: '.*|\. Error: .*|[.:]?\s*$", "", (str(error).splitlines() or [""])[0]).replace("|", "/")
    return f"rejected: {text}" if isinstance(error, ValueError) else f"rejected: {type(error).__name__} {text}"


def outcome(differences: Callable[[], list[str]], parameters: int) -> str:
    """The outcome of a call that lists differences."""
    try:
        found = differences()
    except LOADING_ERRORS as error:
        return reason(error)
    return f"{len(found)} tensors differ, the first: {found[0]}" if found else f"equal ({parameters})"


def raw_outcome(published: Published, directory: Path) -> str:
    """What mlx-lm makes of the FP8 checkpoint itself; ignoring types, because it may load correct
    values in another type."""
    try:
        got = loaded_by_mlx_lm(directory)
    except LOADING_ERRORS as error:
        return reason(error)
    want = published.parameters()
    wrong = [name for name in want if name not in got or got[name].shape != want[name].shape or
             oracle.differing(want[name].astype(F32), got[name].astype(F32)) > 0]
    return f"loads and is WRONG: {len(wrong)} of {len(want)} parameters" if wrong else f"equal ({len(want)})"
