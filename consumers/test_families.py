"""Every family of the table: metalcast's output equals the oracle's, and mlx-lm and mlx-vlm load it
with every parameter right."""

import outcomes
import pytest
from cases import CASES, SOURCES

each_case = pytest.mark.parametrize("case", CASES, ids=str)


@each_case
def test_rules_agree_with_mlx_lm(shelf, case):
    """Without metalcast: mlx-lm's own clean-up turns the naive conversion into what the rules
    say."""
    if case.known_to_mlx_lm:
        assert outcomes.mlx_lm_differences(case, shelf.naive(case)) == []


@each_case
def test_output_is_the_oracles(shelf, case):
    assert shelf.output(case) == []


@each_case
def test_mlx_lm_loads_it(shelf, case):
    if case.known_to_mlx_lm:
        assert shelf.mlx_lm(case) == []
    else:
        with pytest.raises(ValueError, match="Model type .+ not supported"):
            shelf.mlx_lm(case)


@each_case
def test_mlx_vlm_loads_it(shelf, case):
    if case.rejected_by_mlx_vlm:
        with pytest.raises(outcomes.LOADING_ERRORS):
            shelf.mlx_vlm(case)
    else:
        assert shelf.mlx_vlm(case) == []


WRONG = [source for source in SOURCES if source.family.name == "ministral3" or "stored as U8" in str(source)]


@pytest.mark.parametrize("published", WRONG, ids=str)
def test_mlx_lm_loads_the_source_and_is_wrong(shelf, published):
    assert shelf.raw(published).startswith("loads and is WRONG")


@pytest.mark.parametrize("published", [source for source in SOURCES if source.variant.options], ids=str)
def test_metalcast_refuses_what_it_must_be_told(metalcast, shelf, tmp_path, published):
    done = metalcast.run("convert", shelf.source(published), tmp_path / "out", status=4)
    assert published.variant.options[0] in done.stderr
