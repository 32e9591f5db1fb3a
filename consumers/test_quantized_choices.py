"""Other influences: recipes, overrides, --dtype, what the config says about types, F32 tensors,
sources that are not FP8."""

import json

import pytest
from quantized_compare import Asked, differences, tensors
from quantized_reference import DEFAULT, Format, nightly, overriding, workshop  # noqa: F401, a fixture
from quantized_sources import ABSENT, DEEP, NAMES, Sample

RECIPES = ("mixed_2_6", "mixed_3_4", "mixed_3_6", "mixed_4_6")
IN_BRIEF = [DEFAULT, Format("affine", 3, 128), Format("mxfp4"), Format("mxfp8"), Format("nvfp4")]


def compare(workshop, sample, *flags, form=DEFAULT, source=None, asked=Asked(), **arguments):
    """metalcast convert sample -q flags beside mlx_lm.convert -q of source, by default the
    dequantized checkpoint."""
    theirs = workshop.theirs(source or workshop.dequantized(sample), form, **arguments)
    return differences(theirs, workshop.ours(sample, *form.flags(), *flags), asked)


@pytest.mark.parametrize("form", nightly([DEFAULT, Format("affine", 0, 32)], DEFAULT), ids=str)
@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("sample", DEEP, ids=str)
def test_recipes(workshop, sample, recipe, form):
    assert compare(workshop, sample, "--quant-predicate", recipe, form=form, quant_predicate=recipe) == []


@pytest.mark.parametrize("name", NAMES)
def test_recipes_tell_layers_apart(workshop, name):
    """Otherwise comparing them proves little."""
    config = json.loads((workshop.ours(Sample(name, "deep"), *DEFAULT.flags(), "--quant-predicate", "mixed_2_6") / "config.json").read_text())
    bits = {path: entry["bits"] for path, entry in config["quantization"].items() if "down_proj" in path and isinstance(entry, dict)}
    assert set(bits.values()) == {2, 6}


OVERRIDES = {
    "bits": [("*down_proj", "8", {"group_size": 64, "bits": 8, "mode": "affine"})],
    "bits and groups": [("*lm_head", "6:32", {"group_size": 32, "bits": 6, "mode": "affine"})],
    "other modes": [("*_proj", "8:32:mxfp8", {"group_size": 32, "bits": 8, "mode": "mxfp8"}),
                    ("*o_proj", "4:16:nvfp4", {"group_size": 16, "bits": 4, "mode": "nvfp4"})],
    "a mode's defaults": [("*o_proj", "::mxfp4", {"group_size": 32, "bits": 4, "mode": "mxfp4"})],
    "none": [("*embed_tokens", "none", False), ("*layers.0.*", "none", False)],
    "the last holds": [("*_proj", "8", {"group_size": 64, "bits": 8, "mode": "affine"}), ("*layers.3.*", "none", False),
                       ("*layers.3.*o_proj", "2:32", {"group_size": 32, "bits": 2, "mode": "affine"})],
}


@pytest.mark.parametrize("case", OVERRIDES)
@pytest.mark.parametrize("name", NAMES)
def test_overrides(workshop, name, case):
    sample, overrides = Sample(name, "deep"), OVERRIDES[case]
    source = workshop.dequantized(sample)
    flags = [word for pattern, text, _ in overrides for word in ("--q-override", f"{pattern}={text}")]
    left, predicate = set(), overriding(source, [(pattern, value) for pattern, _, value in overrides])

    def noting(path, module):
        answer = predicate(path, module)
        left.update([path] if answer is False else [])
        return answer

    theirs = workshop.theirs(source, DEFAULT, quant_predicate=noting)
    assert differences(theirs, workshop.ours(sample, *DEFAULT.flags(), *flags), Asked(left=frozenset(left))) == []


@pytest.mark.parametrize("form", nightly(IN_BRIEF, DEFAULT, Format("affine", 3, 128), Format("nvfp4")), ids=str)
@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
@pytest.mark.parametrize("name", NAMES)
def test_dtype(workshop, name, dtype, form):
    """An FP8 weight is rounded to bf16, then to dtype, then quantized, as by metalcast convert and
    then mlx_lm.convert --dtype."""
    sample = Sample(name)
    found = compare(workshop, sample, "--dtype", dtype, form=form, dtype=dtype, asked=Asked(dtype=dtype))
    assert [line for line in found if line.split(":")[0] not in rounded_once(workshop, sample, dtype, form)] == []


def rounded_once(workshop, sample, dtype, form) -> set[str]:
    """Where metalcast differs from that: an FP8 weight that is not quantized is rounded once, to
    dtype, as metalcast convert --dtype does it. Those that equal what mlx_lm.convert makes of the
    output of metalcast convert --dtype."""
    ours = tensors(workshop.ours(sample, *form.flags(), "--dtype", dtype))
    once = tensors(workshop.theirs(workshop.dequantized(sample, "--dtype", dtype), form, dtype=dtype))
    return {name for name, (kind, shape, _) in ours.items() if kind in ("F16", "F32") and len(shape) > 1 and once[name] == ours[name]}


def test_that_exception_is_needed(workshop):
    """Where this fails, rounded_once can go."""
    found = compare(workshop, Sample("qwen3_next"), "--dtype", "float16", dtype="float16", asked=Asked(dtype="float16"))
    assert [line.split(":")[0] for line in found] == [f"model.layers.{i}.mlp.shared_expert.down_proj.weight" for i in range(4)]


NESTED = ("qwen3_5_moe", "qwen3_5", "mistral4")  # configs that have a text_config
# whose models always have a head of their own
TIED = [name for name in NAMES if name not in ("deepseek_v3", "kimi_k2", "glm4_moe")]
SAYS = {"qwen3_5_moe": ("torch_dtype", "text_config.dtype"), "qwen3_5": ("torch_dtype", "text_config.dtype"), "mistral4": ("dtype",)}


def plain(name: str, dtype: str, says: str = "", **more) -> Sample:
    """A checkpoint in dtype whose config names that type, or the one in says."""
    keys = SAYS.get(name, ("torch_dtype",))
    return Sample(name, settings=tuple((key, says or dtype) for key in keys), plain=dtype,
                  stacked=name in ("qwen3_5_moe", "mistral4"), **more)


@pytest.mark.parametrize("form", nightly(IN_BRIEF, DEFAULT, Format("mxfp8")), ids=str)
@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
@pytest.mark.parametrize("name", NAMES)
def test_what_is_not_fp8(workshop, name, dtype, form):
    """mlx-lm loads these without metalcast."""
    sample = plain(name, dtype)
    assert compare(workshop, sample, form=form, source=workshop.source(sample)) == []


@pytest.mark.parametrize("says", ["bfloat16", "float16"])
@pytest.mark.parametrize("name", nightly(NAMES, "qwen3_5", "qwen3_next", "deepseek_v3", "mistral4"))
def test_a_config_that_says_another_type_than_the_tensors_have(workshop, name, says):
    """mistral4's config names the type only as dtype, which mlx-lm does not read: nothing is cast,
    and metalcast corrects the config."""
    sample = plain(name, "float32", says)
    asked = Asked(dtype="float32") if name == "mistral4" else Asked()
    assert compare(workshop, sample, source=workshop.source(sample), asked=asked) == []


@pytest.mark.parametrize("form", IN_BRIEF, ids=str)
def test_bf16_per_expert_where_mlx_lm_wants_a_stack(workshop, form):
    assert compare(workshop, Sample("qwen3_5_moe", plain="bfloat16"), form=form) == []


@pytest.mark.parametrize("form", nightly(IN_BRIEF, DEFAULT, Format("nvfp4")), ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_what_is_in_mlx_form_already(workshop, name, form):
    """Norms are not shifted twice, convolutions not turned twice."""
    native = workshop.native(Sample(name))
    assert differences(workshop.theirs(native, form), workshop.ours_of(native, *form.flags()), Asked(rope_type="type")) == []


ALL = ("torch_dtype", "dtype", "text_config.torch_dtype", "text_config.dtype")
SAID = {
    "torch_dtype": {"torch_dtype": "bfloat16"},
    "dtype": {"dtype": "bfloat16"},
    "text_config.dtype": {"text_config.dtype": "bfloat16"},
    "text_config.torch_dtype": {"text_config.torch_dtype": "bfloat16"},
    "torch_dtype float32": {"torch_dtype": "float32"},
    "torch_dtype float16, text_config.dtype bfloat16": {"torch_dtype": "float16", "text_config.dtype": "bfloat16"},
    "torch_dtype null": {"torch_dtype": None, "text_config.dtype": "bfloat16"},
    "torch_dtype auto": {"torch_dtype": "auto"},
    "nothing": {},
}
# Those that mlx-lm casts, or not, as the config says (dt_bias, norms, biases, routers), and those
# that it never casts (A_log of Qwen3.5, e_score_correction_bias).
IN_F32 = r"dt_bias|norm|A_log|mlp\.gate\.weight|\.bias$"


def said_of(name: str, said: str, kind: str) -> Sample:
    values = {key: SAID[said].get(key, ABSENT) for key in ALL if name in NESTED or not key.startswith("text_config")}
    return Sample(name, settings=tuple(values.items()), plain=kind, stacked=bool(kind) and name in ("qwen3_5_moe", "mistral4"), f32=IN_F32)


@pytest.mark.parametrize("said", SAID)
@pytest.mark.parametrize("name", nightly(NAMES, "qwen3_5_moe", "qwen3_next", "deepseek_v3", "minimax", "mistral4"))
def test_what_the_config_says_decides_what_is_cast(workshop, name, said):
    assert compare(workshop, said_of(name, said, "")) == []


@pytest.mark.parametrize("said", SAID)
@pytest.mark.parametrize("name", nightly(NAMES, "qwen3_5", "qwen3_moe", "kimi_k2", "glm4_moe", "mistral4"))
def test_and_in_a_checkpoint_that_is_not_fp8(workshop, name, said):
    sample = said_of(name, said, "bfloat16")
    told = SAID[said].get("torch_dtype") or (SAID[said].get("text_config.dtype") if name in NESTED else None)
    written = Asked(dtype=told if told in ("float16", "float32") else "bfloat16")
    assert compare(workshop, sample, source=workshop.source(sample), asked=written) == []


def test_that_includes_both(workshop):
    kinds = {}
    for key in ("torch_dtype", "dtype"):
        sample = Sample("qwen3_next", settings=tuple((k, "bfloat16" if k == key else ABSENT) for k in ALL[:2]), f32=IN_F32)
        found = tensors(workshop.ours(sample))
        kinds[key] = found["model.layers.0.linear_attn.dt_bias"][0], found["model.layers.0.mlp.gate.scales"][0]
    assert kinds == {"torch_dtype": ("BF16", "BF16"), "dtype": ("F32", "F32")}


@pytest.mark.parametrize("eos", ["2", "[2, 3]", "0", "[]", "null", ""], ids=lambda eos: eos or "no file")
def test_end_of_text(workshop, eos):
    sample = Sample("qwen3", settings=(("eos_token_id", 5),), eos=eos)
    assert compare(workshop, sample) == []


@pytest.mark.parametrize("head", [True, False], ids=["a head too many", "no head"])
@pytest.mark.parametrize("name", TIED)
def test_tied_embeddings(workshop, name, head):
    """A superfluous head is dropped; mlx-lm does that too in some families, and rejects the
    checkpoint in others."""
    settings = (("text_config." * (name in NESTED) + "tie_word_embeddings", True),)
    none = Sample(name, settings=settings, head=False)
    assert compare(workshop, Sample(name, settings=settings, head=head), source=workshop.dequantized(none)) == []


def test_odd_texts_in_the_config(workshop):
    extra = {"_name_or_path": "somewhere", "note": "na\u00efve \u6a21\u578b \u2028 \U0001f600 </script> \\ \" \x7f", "empty": {}, "none": [], "zeta": {"b": 1, "a": [1, 2.5, None]}}
    assert compare(workshop, Sample("qwen3", extra=json.dumps(extra))) == []


def test_overrides_from_a_file(workshop, metalcast, tmp_path):
    sample = Sample("qwen3_moe")
    (tmp_path / "overrides").write_text("*down_proj=8\n*embed_tokens=none\n")
    metalcast.run("convert", workshop.source(sample), tmp_path / "out", "-q", "--q-profile", "cpu", "--q-override", f"@{tmp_path}/overrides")
    assert tensors(tmp_path / "out") == tensors(workshop.ours(sample, "--q-override", "*down_proj=8", "--q-override", "*embed_tokens=none"))
