"""Checkpoints whose scales are reciprocals, like those under weight_scale_inv in an upload of
Qwen3-Omni: refused, or inverted as its loader does."""

import json
import shutil

import ml_dtypes
import numpy as np
import oracle
import outcomes
import pytest
from safetensors.numpy import save_file
from weights import F32, ODD, Spec

SPECS = {"moe, partial blocks": Spec(**ODD, scale=F32), "dense": Spec(moe=False, intermediate=256), "scales in another shard": Spec(scales_apart=True)}


def with_scales(source, target, change):
    """A copy of a checkpoint with other scales; change takes a name and a scale."""
    shutil.copytree(source, target)
    for shard in target.glob("*.safetensors"):
        tensors = oracle.read_shard(shard)
        save_file({name: change(name, tensor) if name.endswith("_scale_inv") else tensor for name, tensor in tensors.items()}, shard)
    return target


def reciprocal(_, scale):
    return np.float32(1) / scale.astype(np.float32)


@pytest.mark.parametrize("name", SPECS)
def test_inverted_it_is_what_its_loader_computes(bench, tmp_path, name):
    stored = with_scales(bench.source(SPECS[name]), tmp_path / "stored", reciprocal)
    # what torch.reciprocal returns to the loader
    meant = with_scales(stored, tmp_path / "meant", reciprocal)
    bench.tool.run("convert", stored, tmp_path / "out", "--scales", "invert", "--verify")
    assert oracle.differences(meant, tmp_path / "out") == []
    assert json.loads((tmp_path / "out" / "metalcast.json").read_text())["options"]["scales"] == "invert"
    bench.tool.run("verify", stored, tmp_path / "out")
    assert max(np.abs(x.astype(np.float32)).max() for key, x in outcomes.loaded_by_mlx_lm(tmp_path / "out").items() if "proj" in key) < 10


@pytest.mark.parametrize("kind", [np.float32, ml_dtypes.bfloat16], ids=["F32", "BF16"])
@pytest.mark.parametrize("name", SPECS)
def test_it_is_refused_before_anything_is_written(bench, tmp_path, name, kind):
    stored = with_scales(bench.source(SPECS[name]), tmp_path / "stored", lambda *x: reciprocal(*x).astype(kind))
    for command in (["convert", stored, tmp_path / "out"], ["convert", stored, tmp_path / "out", "-q"], ["plan", stored]):
        done = bench.tool.run(*command, status=3)
        assert "seems to hold reciprocals of scales" in done.stderr
    assert not list(tmp_path.glob("out*"))
    assert "hint: --scales invert divides by them; --scales trust converts as the file says" in done.stderr
    told = bench.tool.run("inspect", stored, "--scan")
    assert "seems to hold reciprocals of scales" in told.stdout
    assert "weights beyond what models hold" in told.stdout
    for way in ("invert", "trust"):  # the hint's two suggestions
        bench.tool.run("convert", stored, tmp_path / way, "--scales", way)


def test_one_such_tensor_is_enough(bench, tmp_path):
    source = bench.source(SPECS["dense"])
    one = min(name for name in oracle.read_checkpoint(source) if name.endswith("down_proj.weight_scale_inv"))
    stored = with_scales(source, tmp_path / "stored", lambda name, x: reciprocal(name, x) if name == one else x)
    done = bench.tool.run("convert", stored, tmp_path / "out", status=3)
    assert f'"{one}" seems to hold reciprocals of scales, and ' in done.stderr
    # dividing by all of them is not suggested
    assert "hint: --scales trust converts as the file says" in done.stderr
    bench.tool.run("convert", stored, tmp_path / "out", "--scales", "invert", status=3)
    assert not list(tmp_path.glob("out*"))


def test_a_sound_source_is_no_case_for_inverting(bench, tmp_path):
    done = bench.tool.run("convert", bench.source(SPECS["dense"]), tmp_path / "out", "--scales", "invert", status=3)
    assert "hint: leave --scales out" in done.stderr
