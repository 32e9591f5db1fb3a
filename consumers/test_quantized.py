"""metalcast convert -q writes what mlx_lm.convert -q writes from the dequantized checkpoint: every family with an MLX form, every format."""

import pytest
import quantized_compare
from quantized_reference import FORMATS, workshop  # noqa: F401, a fixture
from quantized_sources import NAMES, SAMPLES, Sample
from cases import CASES


@pytest.mark.parametrize("form", FORMATS, ids=str)
@pytest.mark.parametrize("sample", SAMPLES, ids=str)
def test_it_is_mlx_lms(workshop, sample, form):
    theirs = workshop.theirs(workshop.dequantized(sample), form)
    assert quantized_compare.differences(theirs, workshop.ours(sample, *form.flags())) == []


def test_these_are_all_families_with_an_mlx_form():
    assert set(NAMES) == {case.family.name for case in CASES if case.layout == "mlx"}


@pytest.mark.parametrize("group", [16, 32, 64, 128])
@pytest.mark.parametrize("name", NAMES)
def test_groups_divide_some_rows_and_others_not(name, group):
    rows = {tensor.shape[-1] % group == 0 for sizes in ("usual", "ragged") for tensor_name, tensor in Sample(name, sizes).tensors().items()
            if tensor.ndim > 1 and "conv1d" not in tensor_name and "scale" not in tensor_name and "visual" not in tensor_name}
    assert rows == {True, False}
