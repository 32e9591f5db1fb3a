"""The two changes that metalcast began with, mlx-lm's pull request 1224 and vllm-metal's 312, which
load an FP8 Qwen3.5-MoE in Python.

First their tests, written here from what they are described to check, as tests of metalcast. Then
their rules, as written in this file: built into mlx-lm, they turn the FP8 source into the
parameters that unmodified mlx-lm loads from metalcast's output.
"""

import json
import re
from collections import defaultdict

import mlx.core as mx
import numpy as np
import oracle
import outcomes
import pytest
from mlx_lm.models import qwen3_5, qwen3_5_moe
from oracle import Options
from safetensors.numpy import save_file
from weights import F32, FP8, ODD, Spec

MOE, DENSE = Spec(mtp=True, vision=True), Spec(moe=False, intermediate=256, vision=True)
LAYER = "model.language_model.layers.0.mlp.experts"


def output(bench, spec):
    return oracle.read_checkpoint(bench.converted(spec, Options()))


def without(bench, spec, unwanted: str, directory):
    """A copy of the source that lacks tensors."""
    source = bench.source(spec)
    tensors = {name: tensor for name, tensor in oracle.read_checkpoint(source).items() if not re.search(unwanted, name)}
    directory.mkdir()
    save_file({name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}, directory / "model.safetensors")
    (directory / "config.json").write_text((source / "config.json").read_text())
    return directory


# mlx-lm's pull request 1224: the five.


def test_mlx_lm_1224_scaled_fp8_becomes_bf16(bench):
    """Block by block; the last block may be partial."""
    spec = Spec(moe=False, **ODD)
    source, got = oracle.read_checkpoint(bench.source(spec)), output(bench, spec)
    scaled = [name for name, tensor in source.items() if tensor.dtype == FP8]
    assert scaled and any(source[name].shape[0] % 128 for name in scaled)
    for name in scaled:
        row, col = (size - 1 for size in source[name].shape)  # in the last block
        want = F32(source[name][row, col]) * F32(source[name + "_scale_inv"][row // 128, col // 128])
        assert got[name][row, col] == want.astype(got[name].dtype), name
        assert oracle.differing(oracle.dequantize(source[name], source[name + "_scale_inv"], got[name].dtype), got[name]) == 0, name
    assert not any(name.endswith("_scale_inv") for name in got)


def test_mlx_lm_1224_activation_scales_are_dropped(bench):
    spec = Spec(activation_scales=True)
    assert any("activation_scale" in name for name in oracle.read_checkpoint(bench.source(spec)))
    assert not any("activation_scale" in name for name in output(bench, spec))


def test_mlx_lm_1224_experts_that_are_apart_are_stacked(bench):
    got = output(bench, MOE)
    assert got[f"{LAYER}.gate_up_proj"].shape == (MOE.experts, 2 * MOE.intermediate, MOE.hidden)
    assert got[f"{LAYER}.down_proj"].shape == (MOE.experts, MOE.hidden, MOE.intermediate)
    assert not any(re.search(r"experts\.\d", name) for name in got)


def test_mlx_lm_1224_experts_that_are_stacked_stay(bench):
    """The BF16 master is published stacked, without scales: there is nothing to do, and mlx-lm
    loads it."""
    master = bench.converted(MOE, Options())
    done = bench.tool.run("convert", master, bench.root / "never", status=8)
    assert done.stdout.strip() == str(master)
    assert outcomes.loaded_by_mlx_lm(master)


def test_mlx_lm_1224_a_gap_between_experts_is_refused(bench, tmp_path):
    done = bench.tool.run("convert", without(bench, Spec(), r"layers\.0\.mlp\.experts\.2\.", tmp_path / "source"), tmp_path / "out", status=3)
    assert "layer 0, gate_proj: expert indices are non-contiguous: 2 is missing (found 0-1, 3)" in done.stderr
    assert not (tmp_path / "out").exists()


# vllm-metal's pull request 312: the four.


def test_vllm_metal_312_gate_comes_before_up_and_experts_in_order(bench):
    source, got = oracle.read_checkpoint(bench.source(MOE)), output(bench, MOE)
    for expert in range(MOE.experts):
        parts = {}
        for projection in ("gate", "up", "down"):
            name = f"{LAYER}.{expert}.{projection}_proj.weight"
            parts[projection] = oracle.dequantize(source[name], source[name + "_scale_inv"], oracle.OUTPUT["bfloat16"])
        assert oracle.differing(parts["gate"], got[f"{LAYER}.gate_up_proj"][expert, :MOE.intermediate]) == 0
        assert oracle.differing(parts["up"], got[f"{LAYER}.gate_up_proj"][expert, MOE.intermediate:]) == 0
        assert oracle.differing(parts["down"], got[f"{LAYER}.down_proj"][expert]) == 0


def test_vllm_metal_312_what_is_stacked_keeps_its_bytes(bench, tmp_path):
    """Beside FP8, which makes it a conversion: only the experts of the second layer are stacked
    already."""
    source = oracle.read_checkpoint(bench.source(Spec()))
    second = output(bench, Spec())
    mixed = {name: tensor for name, tensor in source.items() if "layers.1.mlp.experts." not in name}
    mixed |= {name: tensor for name, tensor in second.items() if "layers.1.mlp.experts." in name}
    (tmp_path / "source").mkdir()
    save_file({name: np.ascontiguousarray(tensor) for name, tensor in mixed.items()}, tmp_path / "source" / "model.safetensors")
    (tmp_path / "source" / "config.json").write_text((bench.source(Spec()) / "config.json").read_text())
    bench.tool.run("convert", tmp_path / "source", tmp_path / "out")
    assert oracle.tensor_differences(second, oracle.read_checkpoint(tmp_path / "out")) == []


@pytest.mark.parametrize("missing, said", [
    (r"layers\.0\.mlp\.experts\.2\.", "2 is missing (found 0-1, 3)"),
    (r"layers\.0\.mlp\.experts\.\d+\.down_proj", "down_proj is missing from every expert"),
    (r"layers\.0\.mlp\.experts\.3\.up_proj", "up_proj: experts end at 2, config.json says num_experts 4"),
], ids=["an expert", "a projection", "a projection of the last expert"])
def test_vllm_metal_312_what_is_missing_is_refused(bench, tmp_path, missing, said):
    done = bench.tool.run("convert", without(bench, Spec(), missing, tmp_path / "source"), tmp_path / "out", status=3)
    assert "layer 0" in done.stderr and said in done.stderr
    assert not (tmp_path / "out").exists()


def test_vllm_metal_312_a_dense_model_keeps_its_names(bench):
    source, got = oracle.read_checkpoint(bench.source(DENSE)), output(bench, DENSE)
    assert got.keys() == {name for name in source if not name.endswith("_scale_inv")}


# Their rules, built into mlx-lm.

BLOCK = 128
EXPERT = re.compile(r"(.+\.mlp\.experts)\.(\d+)\.(gate_proj|up_proj|down_proj)\.weight")


def dequantized(codes: mx.array, scales: mx.array) -> mx.array:
    """MLX loads FP8 as bytes. A matrix, or a stack of them with a grid of scales each."""
    rows, cols = codes.shape[-2:]
    spread = mx.repeat(mx.repeat(scales, BLOCK, axis=-2), BLOCK, axis=-1)[..., :rows, :cols]
    return (mx.from_fp8(codes, dtype=mx.bfloat16) * spread).astype(mx.bfloat16)


def dequantize_all(weights: dict) -> dict:
    result = {}
    for name, tensor in weights.items():
        if name.endswith(("_scale_inv", "activation_scale")):
            continue
        scales = weights.get(name + "_scale_inv")
        result[name] = tensor if scales is None else dequantized(tensor, scales)
    return result


def stack_experts(weights: dict) -> dict:
    """Finds the experts of each layer, checks that they are complete, and puts them where mlx-lm
    expects stacks."""
    found, result = defaultdict(dict), {}
    for name, tensor in weights.items():
        if match := EXPERT.fullmatch(name):
            found[match[1]][match[3], int(match[2])] = tensor
        else:
            result[name] = tensor
    for prefix, parts in found.items():
        number = len(parts) // 3
        if parts.keys() != {(projection, e) for projection in ("gate_proj", "up_proj", "down_proj") for e in range(number)}:
            raise ValueError(f"{prefix}: not every projection of experts 0 to {number - 1}")
        gate, up, down = (mx.stack([parts[p, e] for e in range(number)]) for p in ("gate_proj", "up_proj", "down_proj"))
        result |= {f"{prefix}.gate_up_proj": mx.concatenate([gate, up], axis=-2), f"{prefix}.down_proj": down}
    return result


def pull_request_1224(monkeypatch) -> None:
    """mlx-lm's: one rule for both kinds of model, at the head of their own clean-up."""
    for model in (qwen3_5.Model, qwen3_5_moe.Model):
        original = model.sanitize
        monkeypatch.setattr(model, "sanitize", lambda self, weights, original=original: original(self, stack_experts(dequantize_all(weights))))


def pull_request_312(monkeypatch) -> None:
    """vllm-metal's: wrapped around mlx-lm's clean-up from outside, and for a dense model without
    the stacking."""
    def wrap(model, *steps):
        original = model.sanitize

        def sanitize(self, weights):
            for step in steps:
                weights = step(weights)
            return original(self, weights)

        monkeypatch.setattr(model, "sanitize", sanitize)

    wrap(qwen3_5.Model, dequantize_all)
    wrap(qwen3_5_moe.Model, dequantize_all, stack_experts)


@pytest.mark.parametrize("rule", [pull_request_1224, pull_request_312])
@pytest.mark.parametrize("spec", [MOE, Spec(**ODD, scale=F32), DENSE, Spec(moe=False, **ODD, activation_scales=True)],
                         ids=["experts", "experts, partial blocks", "dense", "dense, partial blocks"])
def test_patched_mlx_lm_loads_from_fp8_what_mlx_lm_loads_from_the_output(bench, monkeypatch, rule, spec):
    want = outcomes.loaded_by_mlx_lm(bench.converted(spec, Options()))
    with pytest.raises(ValueError, match="parameters not in model"):
        outcomes.loaded_by_mlx_lm(bench.source(spec))
    rule(monkeypatch)
    assert oracle.tensor_differences(want, outcomes.loaded_by_mlx_lm(bench.source(spec))) == []
