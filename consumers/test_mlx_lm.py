"""mlx-lm strictly loads what metalcast writes, and computes the same as with the oracle's
checkpoint."""

import json
import shutil

import mlx.core as mx
import numpy as np
import oracle
import pytest
from mlx_lm import convert as mlx_convert
from mlx_lm.utils import load_model
from oracle import Options
from weights import F32, ODD, Spec

MOE = Spec(mtp=True, vision=True, scales_apart=True)
MODELS = {
    "moe": MOE,
    "moe, partial blocks": Spec(**ODD, scale=F32),
    "moe, no FP8": Spec(fp8=False, vision=True),
    "dense": Spec(moe=False, intermediate=256, vision=True),
    "dense, partial blocks": Spec(moe=False, **ODD, activation_scales=True),
}
FLAT = {"moe": Spec(flat=True), "dense": Spec(moe=False, flat=True, intermediate=256)}
PROMPTS = mx.array([[3, 1, 4, 1, 5, 9, 2, 6], [2, 7, 1, 8, 2, 8, 1, 8]])


def logits(model) -> np.ndarray:
    # exact, and the only type in which MLX multiplies by expert on a CPU
    model.set_dtype(mx.float32)
    return np.array(model(PROMPTS))


def loaded_logits(directory) -> np.ndarray:
    return logits(load_model(directory, strict=True)[0])


def with_model_type(directory, target, model_type: str):
    shutil.copytree(directory, target)
    config = json.loads((target / "config.json").read_text())
    (target / "config.json").write_text(json.dumps(config | {"model_type": model_type}))
    return target


@pytest.mark.parametrize("name", MODELS)
def test_source_is_rejected(bench, name):
    with pytest.raises(ValueError, match=r"Received \d+ parameters not in model"):
        load_model(bench.source(MODELS[name]), strict=True)


@pytest.mark.parametrize("name", MODELS)
def test_logits_equal_those_of_the_oracles_checkpoint(bench, tmp_path, name):
    got = loaded_logits(bench.converted(MODELS[name], Options()))
    want = loaded_logits(oracle.convert(bench.source(MODELS[name]), tmp_path / "oracle"))
    assert np.array_equal(got, want)


@pytest.mark.parametrize("name", MODELS)
def test_logits_mean_something(bench, name):
    got = loaded_logits(bench.converted(MODELS[name], Options()))
    assert np.isfinite(got).all()
    assert 0.3 < got.std() < 10
    assert np.abs(got[0] - got[1]).max() > 1


def test_logits_notice_swapped_gate_and_up(bench, tmp_path):
    source = bench.source(MOE)
    tensors = oracle.converted(oracle.read_checkpoint(source))
    for name, tensor in tensors.items():
        if name.endswith("gate_up_proj"):
            tensors[name] = np.roll(tensor, tensor.shape[1] // 2, axis=1)
    config = oracle.converted_config(json.loads((source / "config.json").read_text()))
    swapped = oracle.write_checkpoint(tensors, config, source, tmp_path / "swapped")
    assert np.abs(loaded_logits(swapped) - loaded_logits(bench.converted(MOE, Options()))).max() > 0.1


def test_kept_mtp_head_does_not_disturb(bench):
    with_head = loaded_logits(bench.converted(MOE, Options(keep_mtp=True)))
    assert np.array_equal(with_head, loaded_logits(bench.converted(MOE, Options())))


def test_per_expert_layout_is_rejected(bench):
    with pytest.raises(ValueError, match=r"Received 48 parameters not in model"):
        load_model(bench.converted(MOE, Options(stacked=False)), strict=True)


def test_output_converts_to_4_bits(bench, tmp_path):
    mlx_convert(str(bench.converted(MOE, Options())), str(tmp_path / "q"), quantize=True)
    model, config = load_model(tmp_path / "q", strict=True)
    experts = model.language_model.model.layers[0].mlp.switch_mlp
    assert config["quantization"]["bits"] == 4
    assert experts.gate_proj.weight.dtype == experts.down_proj.weight.dtype == mx.uint32
    got, want = logits(model), loaded_logits(bench.converted(MOE, Options()))
    assert np.isfinite(got).all()
    assert np.corrcoef(got.ravel(), want.ravel())[0, 1] > 0.75


@pytest.mark.parametrize("family", FLAT)
def test_flat_config_needs_another_model_type_and_the_tool_says_so(bench, tmp_path, family):
    spec = FLAT[family]
    flat, known = ("qwen3_5_moe_text", "qwen3_5_moe") if spec.moe else ("qwen3_5_text", "qwen3_5")
    done = bench.tool.run("convert", bench.source(spec), tmp_path / "out")
    assert flat in done.stderr
    assert f'"{known}"' in done.stderr
    with pytest.raises(ValueError, match=f"Model type {flat} not supported"):
        load_model(tmp_path / "out", strict=True)
    got = loaded_logits(with_model_type(tmp_path / "out", tmp_path / "known", known))
    right = oracle.convert(bench.source(spec), tmp_path / "oracle")
    assert np.array_equal(got, loaded_logits(with_model_type(right, tmp_path / "right", known)))
