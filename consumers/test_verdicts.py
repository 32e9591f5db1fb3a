"""What metalcast says about other programs is what they do: every family in every dialect,
inspected and tried with mlx-lm and mlx-vlm."""

import json
import re
from dataclasses import replace

import dialects
import outcomes
import pytest
import verdicts
from cases import CASES, SOURCES, Published
from families import FAMILIES

# One of each kind of scale, under each tool's names, for families whose labs never published it:
# inspect judges those too.
KINDS = [
    dialects.BLOCK_BF16, dialects.UE8M0_U8, dialects.CT_CHANNEL, dialects.CT_TENSOR, dialects.MODELOPT, dialects.TENSOR_BF16, dialects.LEGACY,
    replace(dialects.CT_BLOCK, label="compressed-tensors, blocks 128x128", config=dialects.compressed("block", [128, 128]), block=(128, 128)),
]
# a single scale in a tensor of shape [1] is not a scale of a stack
STACKED = ("qwen3_vl_moe", "mistral4", "step3p5")


def unusual(family, dialect) -> Published:
    return Published(family, replace(family.variants[0], dialect=dialect, note="unusual", options=()))


TRIED = SOURCES + [unusual(family, dialect) for family in FAMILIES.values() for dialect in KINDS
                   if not (dialect is dialects.CT_TENSOR and family.name in STACKED)]


def inspected(metalcast, directory) -> dict:
    return json.loads(metalcast.run("inspect", "--json", directory).stdout)


@pytest.mark.parametrize("published", TRIED, ids=str)
def test_what_is_said_of_a_source_is_so(metalcast, shelf, published):
    source = shelf.source(published)
    inspection = inspected(metalcast, source)
    claims = verdicts.said(inspection)
    if inspection.get("problem"):
        return
    wants = {"mlx-lm": published.parameters, "mlx-vlm": lambda: published.vlm_parameters(vision=True)}
    does = {runtime: verdicts.outcome(runtime, source, wants[runtime]()) for runtime in claims}
    assert {runtime: does[runtime] for runtime in claims if not verdicts.holds(claims[runtime], does[runtime])} == {}
    assert "mlx-lm" in claims
    if match := re.match(r"Received (\d+) parameters not in model", does["mlx-lm"]):
        assert inspection["mlx_lm_rejects"] == int(match[1])


def outcome_of_output(shelf, case) -> str:
    try:
        return verdicts.WRONG if shelf.mlx_lm(case) else verdicts.EQUAL
    except outcomes.LOADING_ERRORS as error:
        return str(error)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_what_is_said_of_an_output_is_so(metalcast, shelf, case):
    output, done = shelf.conversion(case)
    does = outcome_of_output(shelf, case)
    assert verdicts.holds(verdicts.said(inspected(metalcast, output))["mlx-lm"], does)
    assert ("next:" in done.stderr) == (does == verdicts.EQUAL)
    assert ("mlx-lm does not load" in done.stderr) == (does != verdicts.EQUAL)


def synthetic(metalcast) -> list[str]:
    """The families that "synth" makes, by its help."""
    text = metalcast.run("synth", "--help").stdout
    return re.findall(r"\w+", text[text.index("few layers and experts:"):text.index("Usage:")].partition(":")[2])


def test_what_synth_says_is_so(metalcast, tmp_path):
    """Each family as its lab publishes it, with its prediction head, which mlx-lm knows by its
    number for DeepSeek-V3."""
    found = {}
    for family in [*synthetic(metalcast), "qwen3_5_moe --mtp --vision", "qwen3_5 --mtp --vision", "deepseek_v3 --layers 61"]:
        directory = tmp_path / family
        small = ["--layers", "4", "--experts", "4"] if "qwen3_5_moe" in family else []
        counted = re.search(r"mlx-lm (would reject (\d+) tensors|knows every tensor)", metalcast.run("synth", directory, "--family", *family.split(), *small).stderr)
        inspection = inspected(metalcast, directory)
        claim, does = verdicts.said(inspection).get("mlx-lm"), verdicts.outcome("mlx-lm", directory)
        if claim and not verdicts.holds(claim, does):
            found[family] = claim, does
        if "unsupported" in does.lower():  # its config; what of the tensors?
            config = json.loads((directory / "config.json").read_text())
            (directory / "config.json").write_text(json.dumps({key: value for key, value in config.items() if key != "quantization_config"}))
            (directory / "hf_quant_config.json").unlink(missing_ok=True)
            does = verdicts.outcome("mlx-lm", directory)
            if does.startswith("Received"):
                assert does.startswith(f"Received {inspection['mlx_lm_rejects']} parameters"), family
        if not does.startswith(f"Received {counted[2]} parameters" if counted[2] else verdicts.LOADS):
            found[family, "synth"] = counted[1], does
    assert found == {}


def test_a_claim_can_be_untrue():
    assert not verdicts.holds("loads it", verdicts.WRONG)
    assert not verdicts.holds("loads it", "Received 3 parameters not in model:")
    assert not verdicts.holds("rejects it: Received 3 parameters not in model", "Received 30 parameters not in model: ")
    assert not verdicts.holds("loads it, but rounds every weight a second time, to MXFP8", verdicts.EQUAL)
    assert not verdicts.holds("fails: it does not read them", verdicts.EQUAL)
    assert not verdicts.holds("does something else", verdicts.LOADS)
