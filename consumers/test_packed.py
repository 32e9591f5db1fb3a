"""Status 8 names a runtime: it loads the source strictly, and every parameter has the value that
the source stores."""

import re

import mapping
import packed
import pytest
import verdicts
from cases import Published, without_prefix
from families import FAMILIES

# Step-3.5 has only stacks that are published as stacks.
TRIED = [(family, form) for family in FAMILIES if family != "step3p5" for form in packed.FORMATS] + [("qwen3", form) for form in packed.UNUSUAL]


def expected(family, runtime: str, values):
    config = Published(family, family.variants[0]).config
    rules = family.rules if runtime == "mlx-lm" else family.vlm_rules or family.rules
    want = mapping.apply(rules(config), mapping.drop(family.dropped)(values))
    return want if runtime == "mlx-lm" else without_prefix(want)


@pytest.mark.parametrize("family, form", TRIED, ids=lambda x: str(getattr(x, "label", x)))
def test_the_runtime_that_status_8_names_loads_what_is_stored(metalcast, tmp_path, family, form):
    source, values = packed.source(family, form, tmp_path / "source")
    done = metalcast.attempt("convert", source, tmp_path / "output")
    assert done.returncode in (4, 8), done.stderr
    if done.returncode == 8:
        assert done.stdout.strip() == str(source)
        runtime = re.search(r"(mlx-lm|mlx-vlm) [\d.]+ loads it as it is", done.stderr)[1]
        got = verdicts.RUNTIMES[runtime](source)
        assert packed.differences(expected(FAMILIES[family], runtime, values), got) == []
