"""What metalcast says about models that lack something, and about the output head, is what mlx-lm
does with them."""

import json
import re
import shutil
from pathlib import Path

import mlx.core as mx
import oracle
import pytest
from mlx_lm.utils import load_model
from safetensors.numpy import save_file

FAMILIES = ("qwen3_5_moe qwen3_5 qwen3_moe qwen3 qwen3_next qwen3_vl_moe deepseek_v3 deepseek_v32 glm_moe_dsa glm4_moe_lite glm4_moe solar_open dots1 mistral4 "
            "ministral3 minimax step3p5 nemotron_h llama4 bailing_moe hunyuan longcat_flash ernie4_5_moe mimo_v2_flash").split()
# their arguments have no default for tie_word_embeddings
NEEDED = {"qwen3_moe", "qwen3", "qwen3_vl_moe", "glm4_moe", "solar_open", "ernie4_5_moe"}
SAYS_MORE = {"mimo_v2_flash": ["--trust-scales"]}


@pytest.fixture(scope="module")
def synthetic(metalcast, tmp_path_factory):
    """A family's synthetic release, with an output head and in one shard."""
    root, made = tmp_path_factory.mktemp("whole"), {}

    def make(family: str) -> Path:
        if family not in made:
            directory = root / family
            small = ["--layers", "4", "--experts", "4"] if family == "qwen3_5_moe" else []
            metalcast.run("synth", directory, "--family", family, "--shards", "1", "--quiet", *small)
            tensors = {name: x for shard in directory.glob("model*.safetensors") for name, x in oracle.read_shard(shard).items()}
            heads = [n for n in tensors if n.endswith("lm_head.weight")]
            if not heads:
                embeddings = next(n for n in tensors if n.endswith(("embed_tokens.weight", "word_embeddings.weight")))
                tensors["lm_head.weight"] = tensors[embeddings].copy()
            made[family] = directory, tensors
        return made[family]

    return make


def publish(directory: Path, tensors: dict, config: dict, target: Path) -> Path:
    shutil.copytree(directory, target, ignore=lambda _, names: [n for n in names if n.startswith("model")])
    save_file(tensors, target / "model.safetensors", {"format": "pt"})
    (target / "config.json").write_text(json.dumps(config))
    return target


def loads(directory: Path) -> str:
    """mlx-lm's objection to a checkpoint, or ""."""
    try:
        load_model(directory, lazy=True, strict=True)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""


def ties(family: str, nested: bool) -> list[tuple[str, dict, dict]]:
    cases = [("true", {"tie_word_embeddings": True}), ("false", {"tie_word_embeddings": False})]
    if family not in NEEDED:
        cases.append(("unsaid", {}))
    if not nested:
        return [(label, setting, {}) for label, setting in cases]
    inner = [(f"{label} inside", {}, setting) for label, setting in cases]
    if family in NEEDED:
        return inner
    return [*inner, ("true outside", {"tie_word_embeddings": True}, {}), ("true in both", *[{"tie_word_embeddings": True}] * 2)]


@pytest.mark.parametrize("family", FAMILIES)
def test_heads_are_where_mlx_lm_wants_them(metalcast, synthetic, tmp_path, family):
    directory, tensors = synthetic(family)
    config = json.loads((directory / "config.json").read_text())
    nested = "text_config" in config
    wrong = []
    for number, (label, outer, inner) in enumerate(ties(family, nested)):
        c = {k: v for k, v in config.items() if k != "tie_word_embeddings"} | outer
        if nested:
            c["text_config"] = {k: v for k, v in c["text_config"].items() if k != "tie_word_embeddings"} | inner
        for head in (True, False):
            t = tensors if head else {n: x for n, x in tensors.items() if not n.endswith("lm_head.weight")}
            source, target = publish(directory, t, c, tmp_path / f"{number}{head}"), tmp_path / f"{number}{head}-out"
            said = metalcast.run("convert", source, target, "--device", "cpu", *SAYS_MORE.get(family, [])).stderr
            problem = loads(target)
            if ("next:" in said) != (problem == ""):
                wrong.append(f"{label}, {'a' if head else 'no'} head: mlx-lm: {problem or 'loads'}; metalcast: {said}")
            if problem and not re.search(r"lm_head|output head", said):
                wrong.append(f"{label}, {'a' if head else 'no'} head: no word on it: {said}")
    assert wrong == []


@pytest.mark.parametrize("family", ["qwen3_5", "mistral4"])
@pytest.mark.parametrize("inner", [None, True])
def test_quantized_heads_are_those_of_mlx_lm(metalcast, synthetic, tmp_path, family, inner):
    directory, tensors = synthetic(family)
    config = json.loads((directory / "config.json").read_text())
    config["tie_word_embeddings"] = True
    config["text_config"].pop("tie_word_embeddings", None)
    if inner:
        config["text_config"]["tie_word_embeddings"] = True
    source, target = publish(directory, tensors, config, tmp_path / "source"), tmp_path / "target"
    metalcast.run("convert", source, target, "-q", "--device", "cpu")
    assert loads(target) == ""
    header, _ = oracle.read_header(target / "model.safetensors")
    assert ("language_model.lm_head.weight" in header) == (inner is None)


def test_mlx_computes_in_float32_where_halves_meet_bfloat16():
    half, brain = mx.ones((2, 2), mx.float16), mx.ones((2, 2), mx.bfloat16)
    assert (half @ brain).dtype == (half * brain).dtype == mx.float32


@pytest.mark.parametrize("options", [[], ["--layout", "mlx"], ["--layout", "per-expert"]])
def test_experts_of_which_some_are_bf16(metalcast, synthetic, tmp_path, options):
    directory, tensors = synthetic("qwen3_5_moe")
    plain, mixed = dict(tensors), dict(tensors)
    for name in [n for n in tensors if ".mlp.experts." in n and n.endswith(".weight")]:
        scale = name + "_scale_inv"
        dense = oracle.dequantize(tensors[name], tensors[scale], oracle.OUTPUT["bfloat16"])
        plain[name] = dense
        del plain[scale]
        if ".experts.1." in name or ".experts.2.down_proj" in name:
            mixed[name] = dense
            del mixed[scale]
        elif ".experts.3." in name:
            mixed[scale] = tensors[scale].astype("float32")
    config = json.loads((directory / "config.json").read_text())
    outputs = []
    for name, t in (("plain", plain), ("mixed", mixed)):
        target = tmp_path / f"{name}-out"
        metalcast.run("convert", publish(directory, t, config, tmp_path / name), target, "--device", "cpu", "--verify", *options)
        outputs.append(oracle.read_checkpoint(target))
    assert oracle.tensor_differences(*outputs) == []
