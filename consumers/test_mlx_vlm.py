"""mlx-vlm loads the same directories, including the vision tower, without a missing or an
unexpected tensor."""

import json

import mlx.core as mx
import numpy as np
import oracle
import pytest
from mlx.utils import tree_flatten
from mlx_lm.utils import load_model as load_text_model
from mlx_vlm.utils import load_model
from oracle import Options
from weights import ODD, Spec

MODELS = {
    "moe": Spec(mtp=True, vision=True, scales_apart=True),
    "moe, partial blocks": Spec(vision=True, **ODD),
    "dense": Spec(moe=False, vision=True, intermediate=256),
}
LAYER = "model.language_model.layers.0."
PROMPT = mx.array([[3, 1, 4, 1, 5, 9, 2, 6]])


def load_strictly(directory):
    """load_model is strict by default, except that it drops a vision tower that has no tensors."""
    model = load_model(directory)
    assert model.vision_tower is not None, "the vision tower was dropped"
    return model


@pytest.mark.parametrize("name", MODELS)
def test_output_loads_with_its_vision_tower(bench, name):
    model = load_strictly(bench.converted(MODELS[name], Options()))
    loaded = dict(tree_flatten(model.parameters()))
    tensors = oracle.read_checkpoint(bench.converted(MODELS[name], Options()))
    stacked = sum(n.endswith("gate_up_proj") for n in tensors)  # each becomes two parameters
    assert len(loaded) == len(tensors) + stacked
    assert all(mx.isfinite(p).all() for p in loaded.values())


@pytest.mark.parametrize("name", MODELS)
def test_its_logits_are_mlx_lms(bench, name):
    directory = bench.converted(MODELS[name], Options())
    model = load_strictly(directory)
    text, _ = load_text_model(directory)
    for each in (model, text):
        each.set_dtype(mx.float32)
    got, want = np.array(model.language_model(PROMPT).logits), np.array(text(PROMPT))
    assert np.abs(got - want).max() < 1e-3


@pytest.mark.parametrize("mtp", [False, True], ids=["mtp dropped", "mtp kept"])
@pytest.mark.parametrize("stacked", [True, False], ids=["stacked", "per expert"])
def test_every_layout_loads(bench, mtp, stacked):
    load_strictly(bench.converted(MODELS["moe"], Options(stacked=stacked, keep_mtp=mtp)))


@pytest.mark.parametrize("spec", [Spec(flat=True), Spec(moe=False, flat=True, intermediate=256)], ids=["moe", "dense"])
def test_flat_checkpoint_loads_as_it_is(bench, spec):
    load_model(bench.converted(spec, Options()))


def lose_the_vision_tower(tensors):
    for name in [n for n in tensors if n.startswith("model.visual.")]:
        del tensors[name]


FAULTS = {
    "an expert stack is missing": lambda t: t.pop(LAYER + "mlp.experts.down_proj"),
    "a norm is missing": lambda t: t.pop(LAYER + "input_layernorm.weight"),
    "a vision bias is missing": lambda t: t.pop("model.visual.merger.norm.bias"),
    "the vision tower is missing": lose_the_vision_tower,
    "a scale is left": lambda t: t.update({LAYER + "mlp.experts.down_proj_scale_inv": np.ones((4, 2, 1), np.float32)}),
    "an activation scale is left": lambda t: t.update({LAYER + "linear_attn.out_proj.activation_scale": np.ones(1, np.float32)}),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_loading_fails_where(bench, tmp_path, fault):
    source = bench.source(MODELS["moe"])
    tensors = oracle.converted(oracle.read_checkpoint(source))
    FAULTS[fault](tensors)
    config = oracle.converted_config(json.loads((source / "config.json").read_text()))
    oracle.write_checkpoint(tensors, config, source, tmp_path / "faulty")
    with pytest.raises((ValueError, KeyError, AssertionError)):
        load_strictly(tmp_path / "faulty")
