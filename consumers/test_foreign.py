"""Formats that metalcast does not convert: which runtime loads them as they are, strictly and with
the stored values, and that metalcast says so."""

import functools
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
    """The weights of a linear layer, from its results for the unit vectors."""
    module = next(module for path, module in model.named_modules() if path.endswith(name))
    return np.array(module(mx.eye(foreign.LINEAR[name.partition(".")[2]][1], dtype=mx.float32)).astype(mx.float32)).T


def loads(runtime: str, directory, want: dict) -> bool:
    """Whether a runtime loads a checkpoint, with the stored values."""
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
    # never copied as if it were plain
    for flags in (["-q"], ["--dtype", "bfloat16"], ["--layout", "mlx"]):
        assert f"14 tensors in {name}" in metalcast.run("convert", source, tmp_path / "out", *flags, status=4).stderr
    assert not list(tmp_path.glob("out*"))


def plus(layer, **more):
    """A layer with additional tensors, or without those that are None."""
    def changed(rng, rows, cols):
        stored, _ = layer(rng, rows, cols)
        kept = {name: tensor for name, tensor in (stored | more).items() if tensor is not None}
        return kept, None
    return changed


def settings(name: str, **weights) -> dict:
    config = json.loads(json.dumps(foreign.FORMATS[name][1]))
    config["config_groups"]["group_0"]["weights"] |= weights
    return config


def layer_of(name: str):
    return foreign.FORMATS[name][0]


INT4, NV, NVM = "int4 (compressed-tensors pack-quantized)", "NVFP4 (compressed-tensors)", "NVFP4 (ModelOpt)"
VECTOR, NUMBER = np.ones(4, np.float32), np.ones((), np.float32)
# What a runtime that loads a format does not accept: another format, how its layers are stored, its
# quantization_config.
REFUSED = {
    "AWQ, groups of 16": ("AWQ", functools.partial(foreign.awq, group=16), foreign.FORMATS["AWQ"][1] | {"group_size": 16}),
    "AWQ, a stranger": ("AWQ", plus(layer_of("AWQ"), smooth=VECTOR), None),
    "AWQ, a cache's scale": ("AWQ", plus(layer_of("AWQ"), k_scale=NUMBER), None),
    "int4, groups of 16": (INT4, foreign.pack_quantized(4, 16), settings(INT4, group_size=16)),
    "int4, channels": (INT4, lambda rng, rows, cols: foreign.pack_quantized(4, cols)(rng, rows, cols), settings(INT4, strategy="channel", group_size=None)),
    "int4, another group size": (INT4, foreign.pack_quantized(4, 32), settings(INT4, group_size=128)),
    "int4, two group sizes": (INT4, lambda rng, rows, cols: foreign.pack_quantized(4, 64 if rows == foreign.HIDDEN else 32)(rng, rows, cols), None),
    "int4, two widths": (INT4, lambda rng, rows, cols: foreign.pack_quantized(4 if rows == foreign.INNER else 8, 32)(rng, rows, cols), None),
    "int4, zero points": (INT4, plus(layer_of(INT4), weight_zero_point=np.zeros((32, 8), np.int32)), settings(INT4, symmetric=False)),
    "int4, columns in another order": (INT4, plus(layer_of(INT4), weight_g_idx=np.zeros(256, np.int32)), settings(INT4, actorder="group")),
    "NVFP4, no second level": (NV, plus(layer_of(NV), weight_global_scale=None), None),
    "NVFP4 of ModelOpt, no second level": (NVM, plus(layer_of(NVM), weight_scale_2=None), None),
    "NVFP4 with AWQ": (NVM, plus(layer_of(NVM), pre_quant_scale=VECTOR), None),
    "BitNet, a head that is not listed": ("BitNet", layer_of("BitNet"), {"quant_method": "bitnet"}),
}


@pytest.mark.parametrize("name", REFUSED)
def test_status_8_only_where_it_loads(metalcast, tmp_path, monkeypatch, name):
    form, layer, config = REFUSED[name]
    monkeypatch.setitem(foreign.FORMATS, form, (layer, config or foreign.FORMATS[form][1], None))
    source = tmp_path / "source"
    foreign.make(form, source)
    assert not {runtime for runtime in LOADERS if loads(runtime, source, {})}
    metalcast.run("convert", source, tmp_path / "out", status=4)
    inspection = json.loads(metalcast.run("inspect", "--json", source).stdout)
    assert not inspection.get("runtimes")
    assert not inspection["usable"]
