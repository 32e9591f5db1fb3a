"""Formats that metalcast does not take apart: which runtime loads them as they are, strictly and with the stored values, and that metalcast says so."""

import json

import foreign
import mlx.core as mx
import mlx_lm.utils
import mlx_vlm.utils
import numpy as np
import outcomes
import pytest

LOADERS = {"mlx-lm": lambda directory: mlx_lm.utils.load_model(directory, strict=True)[0], "mlx-vlm": mlx_vlm.utils.load_model}


def values(model, name: str) -> np.ndarray:
    """Of a linear layer, by what it makes of the unit vectors."""
    module = next(module for path, module in model.named_modules() if path.endswith(name))
    return np.array(module(mx.eye(foreign.LINEAR[name.partition(".")[2]][1], dtype=mx.float32)).astype(mx.float32)).T


def loads(runtime: str, directory, want: dict) -> bool:
    """Whether a runtime loads a checkpoint, and with the values that it stores."""
    try:
        model = LOADERS[runtime](directory)
    except outcomes.LOADING_ERRORS:
        return False
    for name, stored in want.items():
        if stored is None:  # a kernel of Metal's; the packed weights are what was stored
            continue
        got = values(model, name.removeprefix("model.layers."))
        if not np.allclose(got, stored, rtol=0.02, atol=0.02 * np.abs(stored).max()):
            return False
    return True


@pytest.mark.parametrize("name", foreign.FORMATS)
def test_status_8_names_the_runtime_that_loads_it(metalcast, tmp_path, name):
    source = tmp_path / "source"
    want = foreign.make(name, source)
    runtime = foreign.FORMATS[name][2]
    assert {r for r in LOADERS if loads(r, source, want)} == ({runtime} if runtime else set())
    done = metalcast.run("convert", source, tmp_path / "out", status=8 if runtime else 4)
    assert f"14 tensors in {name}" in done.stderr
    inspection = json.loads(metalcast.run("inspect", "--json", source).stdout)
    said = {verdict["runtime"].split()[0]: verdict["does"] for verdict in inspection.get("runtimes") or []}
    assert said == ({runtime: "loads it"} if runtime else {})
    if runtime:
        assert f"{runtime} " in done.stderr
        assert done.stdout == f"{source}\n"
    for flags in (["-q"], ["--dtype", "bfloat16"], ["--layout", "mlx"]):  # never copied as if plain
        assert f"14 tensors in {name}" in metalcast.run("convert", source, tmp_path / "out", *flags, status=4).stderr
    assert not list(tmp_path.glob("out*"))
