"""The checkpoint of `metalcast synth` has the structure of the FP8 Qwen3.6-35B-A3B release, and its
conversion is right."""

import json

import oracle
import pytest
from mlx_lm.utils import load_model


@pytest.fixture(scope="module")
def source(metalcast, tmp_path_factory):
    directory = tmp_path_factory.mktemp("synth") / "source"
    metalcast.run("synth", directory)
    return directory


@pytest.fixture(scope="module")
def output(metalcast, source):
    directory = source.parent / "output"
    metalcast.run("convert", source, directory)
    return directory


def test_source_has_as_many_tensors_to_reject_as_the_release(source):
    with pytest.raises(ValueError, match="Received 61690 parameters not in model"):
        load_model(source, strict=True)


def test_source_has_the_scaled_weights_of_the_release(source):
    weight_map = json.loads((source / oracle.INDEX).read_text())["weight_map"]
    names = [n for n in weight_map if not n.startswith("mtp.")]
    scales = [n for n in names if n.endswith("_scale_inv")]
    assert len(scales) == 30970
    assert sum(".mlp.experts." in n for n in scales) == 40 * 256 * 3
    assert sum(".mlp.shared_expert." in n for n in scales) == 40 * 3
    assert sum(".linear_attn." in n for n in scales) == 30 * 3
    assert sum(".self_attn." in n for n in scales) == 10 * 4


def test_output_loads_strictly(output):
    load_model(output, strict=True)


def test_output_is_the_oracles(source, output):
    assert oracle.differences(source, output) == []
