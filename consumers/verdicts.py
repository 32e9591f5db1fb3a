"""Compares what inspect says a runtime does with a checkpoint as published with what the runtime
does.

An outcome is one of the words below, or the text of a refusal.
"""

import logging
import re
from collections.abc import Callable
from pathlib import Path

import mlx.core as mx
import numpy as np
import oracle
import outcomes
from sources import Tensors
from weights import F32

EQUAL, AGAIN, WRONG, LOADS = "equal", "rounded again", "wrong", "loads"
RUNTIMES = {"mlx-lm": outcomes.loaded_by_mlx_lm, "mlx-vlm": outcomes.loaded_by_mlx_vlm}
GROUP = 32  # of MXFP8

# By the beginning of a claim: which outcomes make it true, given the match.
CLAIMS: list[tuple[str, Callable[[re.Match, str], bool]]] = [
    (r"loads it$", lambda claim, outcome: outcome in (EQUAL, LOADS)),
    (r"loads it, reading|dequantizes", lambda claim, outcome: outcome in (EQUAL, LOADS)),
    (r"loads it, but rounds every weight a second time", lambda claim, outcome: outcome in (AGAIN, LOADS)),
    (r"loads it without an error and WRONG", lambda claim, outcome: outcome in (WRONG, LOADS)),
    (r"rejects it: (Received \d+ parameters not in model)$", lambda claim, outcome: outcome.startswith(claim[1])),
    (r"refuses its quantization_config: (.+)", lambda claim, outcome: letters(claim[1]) in letters(outcome)),
    (r'does not know model_type "(.+)"', lambda claim, outcome: f"Model type {claim[1]} not supported" in outcome),
    (r"does not load it: ", lambda claim, outcome: outcome not in (EQUAL, AGAIN, WRONG, LOADS)),
    (r"fails", lambda claim, outcome: outcome not in (EQUAL, AGAIN, WRONG, LOADS) and "Received" not in outcome and "not supported" not in outcome),
]


def letters(text: str) -> str:
    return re.sub(r"\W+", " ", text).lower().strip()


def holds(claim: str, outcome: str) -> bool:
    for pattern, true in CLAIMS:
        if match := re.match(pattern, claim):
            return true(match, outcome)
    return False


def outcome(runtime: str, directory: Path, want: Tensors | None = None) -> str:
    """The outcome of loading directory; want is what its parameters must be, or None if that is not
    known."""
    logging.disable(logging.CRITICAL)
    try:
        got = RUNTIMES[runtime](directory)
    except outcomes.LOADING_ERRORS as error:
        return f"{error}" if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
    finally:
        logging.disable(logging.NOTSET)
    if want is None:
        return LOADS
    quantized = [name for name in want if name.removesuffix(".weight") + ".scales" in got]
    wrong = [name for name in want if not (is_near(want[name], got, name) if name in quantized else is_equal(want[name], got.get(name)))]
    return WRONG if wrong else AGAIN if quantized else EQUAL


def is_equal(want: np.ndarray, got: np.ndarray | None) -> bool:
    """Equal in value: a runtime may load correct values in another type."""
    return got is not None and got.shape == want.shape and oracle.differing(want.astype(F32), got.astype(F32)) == 0


def is_near(want: np.ndarray, got: Tensors, name: str) -> bool:
    """MXFP8 keeps four bits of each number, and fewer of those that are small relative to their
    group."""
    scales = mx.array(got[name.removesuffix(".weight") + ".scales"])
    values = np.array(mx.dequantize(mx.array(got[name]), scales, group_size=GROUP, bits=8, mode="mxfp8").astype(mx.float32))
    off, groups = np.abs(values - want.astype(F32)), np.abs(want.astype(F32)).reshape(*want.shape[:-1], -1, GROUP)
    return bool((off.reshape(groups.shape) <= groups.max(-1, keepdims=True) / 8).all())


def said(inspection: dict) -> dict[str, str]:
    """By runtime, without its version, for those in the tests."""
    claims = {verdict["runtime"].split()[0]: verdict["does"] for verdict in inspection.get("runtimes") or []}
    return {runtime: claims[runtime] for runtime in RUNTIMES if runtime in claims}
