"""metalcast convert -q writes what mlx_lm.convert -q writes from the dequantized checkpoint: every
family with an MLX form, every format."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from cases import CASES
from quantized_compare import card, differences, tensor_differences, tensors
from quantized_reference import DEFAULT, FORMATS, nightly, workshop  # noqa: F401, a fixture
from quantized_sources import NAMES, SAMPLES, Sample

# Every format in the usual sizes, and in ragged sizes those that differ in how they are packed and
# scaled.
PAIRS = [(sample, form) for sample in SAMPLES for form in FORMATS]
IN_BRIEF = [(sample, form) for sample, form in PAIRS if sample.sizes == "usual" or form.mode != "affine" or form.group == 32 and form.bits in (2, 3, 5)]


@pytest.mark.parametrize(("sample", "form"), nightly(PAIRS, *IN_BRIEF), ids=str)
def test_it_is_mlx_lms(workshop, sample, form):
    theirs = workshop.theirs(workshop.dequantized(sample), form)
    assert differences(theirs, workshop.ours(sample, *form.flags())) == []


def test_these_are_all_families_with_an_mlx_form():
    assert set(NAMES) == {case.family.name for case in CASES if case.layout == "mlx"}


@pytest.mark.parametrize("group", [16, 32, 64, 128])
@pytest.mark.parametrize("name", NAMES)
def test_groups_divide_some_rows_and_others_not(name, group):
    rows = {tensor.shape[-1] % group == 0 for sizes in ("usual", "ragged") for tensor_name, tensor in Sample(name, sizes).tensors().items()
            if tensor.ndim > 1 and not any(other in tensor_name for other in ("conv1d", "scale", "visual", "vision"))}
    assert rows == {True, False}


def test_flags_left_out_are_the_modes_defaults(workshop):
    sample = Sample("qwen3_moe")
    assert differences(workshop.theirs(workshop.dequantized(sample)), workshop.ours(sample)) == []


@pytest.mark.parametrize("more", [("--max-shard-size", "1MiB"), ("--max-memory", "30MiB"), ("--verify",), ("--layout", "mlx")], ids=" ".join)
def test_what_must_not_matter(workshop, more):
    sample = Sample("qwen3_5_moe")
    directory = workshop.ours(sample, *more)
    assert tensor_differences(tensors(workshop.ours(sample)), tensors(directory)) == []
    if "--max-shard-size" in more:
        weight_map = json.loads((directory / "model.safetensors.index.json").read_text())["weight_map"]
        assert set(weight_map) == set(tensors(directory))
        assert len(set(weight_map.values())) == len(list(directory.glob("model-*-of-*.safetensors"))) > 1


def test_the_metal_profile_differs_in_bits_alone(workshop, metalcast, tmp_path):
    """internal/mlxquant's tests compare the bits with MLX's own kernels."""
    sample = Sample("qwen3_moe")
    metalcast.run("convert", workshop.source(sample), tmp_path / "metal", "-q")
    cpu, metal = tensors(workshop.ours(sample)), tensors(tmp_path / "metal")
    assert {name: tensor[:2] for name, tensor in cpu.items()} == {name: tensor[:2] for name, tensor in metal.items()}
    assert (workshop.ours(sample) / "config.json").read_bytes() == (tmp_path / "metal" / "config.json").read_bytes()
    weights = {name for name in cpu if cpu[name] != metal[name]}
    assert weights
    assert all(name.endswith((".weight", ".scales", ".biases")) for name in weights)


def hub(root: Path, directory: Path, name: str = "someone/Model-FP8") -> dict[str, str]:
    """The environment in which a hub cache has directory under this name."""
    repository = root / "hub" / f"models--{name.replace('/', '--')}"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("0" * 40)
    shutil.copytree(directory, repository / "snapshots" / ("0" * 40))
    return os.environ | {"HF_HOME": str(root), "HF_HUB_CACHE": str(root / "hub"), "HF_HUB_OFFLINE": "1"}


def test_from_a_hub_cache_by_the_command_lines(workshop, metalcast, tmp_path):
    """The card then has everything in the source's, and names the source."""
    sample, name = Sample("qwen3"), "someone/Model-FP8"
    ours = subprocess.run([metalcast.path, "convert", "--hf-path", name, "--mlx-path", tmp_path / "ours", "-q", "--q-bits", "3", "--q-profile", "cpu"],
                          env=hub(tmp_path / "1", workshop.source(sample)), capture_output=True, text=True, check=False)
    assert ours.returncode == 0, ours.stderr
    code = "import mlx.core as mx; mx.set_default_device(mx.cpu); from mlx_lm.convert import main; main()"
    theirs = subprocess.run([sys.executable, "-c", code, "--hf-path", name, "--mlx-path", tmp_path / "theirs", "-q", "--q-bits", "3"],
                            env=hub(tmp_path / "2", workshop.dequantized(sample)), capture_output=True, text=True, check=False)
    assert theirs.returncode == 0, theirs.stderr
    assert differences(tmp_path / "theirs", tmp_path / "ours") == []
    assert card(tmp_path / "ours") == card(tmp_path / "theirs")
    assert card(tmp_path / "ours")["base_model"] == name
