"""metalcast convert -q writes what mlx_lm.convert -q writes from the dequantized checkpoint: every family with an MLX form, every format."""

import pytest
import quantized_compare
from quantized_reference import FORMATS, Workshop
from quantized_sources import SAMPLES


@pytest.fixture(scope="session")
def workshop(metalcast, tmp_path_factory) -> Workshop:
    return Workshop(metalcast, tmp_path_factory.mktemp("quantized"))


@pytest.mark.parametrize("form", FORMATS, ids=str)
@pytest.mark.parametrize("sample", SAMPLES, ids=str)
def test_it_is_mlx_lms(workshop, sample, form):
    theirs = workshop.theirs(workshop.dequantized(sample), form)
    assert quantized_compare.differences(theirs, workshop.ours(sample, *form.flags())) == []
