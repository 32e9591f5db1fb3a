"""A trained language model, published in FP8 in three ways: metalcast's output equals the
reference, and answers with the same words."""

import json
import os

import oracle
import pytest
import real_model
from mlx_lm import generate, load
from mlx_lm.utils import load_model

if not real_model.installed():
    if "consumers" in os.environ.get("METALCAST_REQUIRE", ""):
        pytest.fail(f"{real_model.PACKAGE} is not installed: ./build.sh venv does it", pytrace=False)
    pytest.skip(f"{real_model.PACKAGE} is not installed", allow_module_level=True)

QUESTION = "What is the capital of France?"
DIALECTS = pytest.mark.parametrize("name", real_model.DIALECTS)


def answer(directory) -> str:
    """Greedy, like mlx_lm.generate without a temperature."""
    model, tokenizer = load(str(directory))
    prompt = tokenizer.apply_chat_template([{"role": "user", "content": QUESTION}], add_generation_prompt=True)
    return generate(model, tokenizer, prompt, max_tokens=16)


@pytest.fixture(scope="module")
def made(metalcast, tmp_path_factory):
    """For each dialect: the release, metalcast's output, and the oracle's, each made once."""
    root, kept = tmp_path_factory.mktemp("real"), {}

    def make(name: str):
        if name not in kept:
            dialect = real_model.DIALECTS[name]
            tensors, meaning = real_model.published(dialect)
            source, output = real_model.write(root / name, tensors, dialect.config), root / f"{name}-bf16"
            done = metalcast.run("convert", source, output)
            assert "not a family that metalcast knows; names are unchanged; to try it:" in done.stderr or "next:" in done.stderr
            config = oracle.converted_config(json.loads((source / "config.json").read_text()))
            kept[name] = source, output, oracle.write_checkpoint(meaning, config, source, root / f"{name}-reference")
        return kept[name]

    return make


@DIALECTS
def test_every_tensor_and_file_is_the_references(made, name):
    source, output, reference = made(name)
    assert oracle.tensor_differences(oracle.read_checkpoint(reference), oracle.read_checkpoint(output)) == []
    assert oracle.file_differences(source, output, json.loads((reference / "config.json").read_text())) == []


@DIALECTS
def test_it_answers_with_the_references_words(made, name):
    _, output, reference = made(name)
    # MLX on a busy CPU has answered the same question about the same file in two ways; different
    # weights differ each time.
    for _ in range(3):
        want, got = answer(reference), answer(output)
        if want == got:
            break
    assert want.strip() and got == want


@DIALECTS
def test_mlx_lm_does_not_load_the_release(made, name):
    with pytest.raises(ValueError, match="Received 210 parameters not in model|compressed-tensors"):
        load_model(made(name)[0], strict=True)


def test_the_model_in_bf16_needs_no_conversion(metalcast, tmp_path):
    """It comes back unchanged, and is a usable model."""
    source = real_model.write(tmp_path / "source", real_model.weights())
    assert metalcast.run("convert", source, tmp_path / "output", status=8).stdout.strip() == str(source)
    assert "Paris" in answer(source)
