"""Model cards in every spelling that huggingface_hub's ModelCard reads: what it finds in the source
it finds in the output."""

from pathlib import Path

import pytest
from checkpoints import write
from huggingface_hub import ModelCard
from weights import Spec

FRONT = "license: apache-2.0\nbase_model: Org/Base\nlibrary_name: transformers\nlanguage:\n- en\ntags:\n- foo\n- 'a: b'\n"
LF = f"---\n{FRONT}---\n\n# Title\n\nText\n"
NOTE = "> Converted from "

CARDS = {
    "lf": LF, "crlf": LF.replace("\n", "\r\n"), "bom": "\ufeff" + LF, "bom and crlf": "\ufeff" + LF.replace("\n", "\r\n"), "space behind the last line": LF.replace("---\n\n", "--- \n\n"),
    "tab behind the last line": LF.replace("---\n\n", "---\t\r\n\n"), "empty first line": "\n" + LF, "empty first lines": "\r\n \t\n\u3000" + LF, "no last newline": f"---\n{FRONT}---", "spaces at the end": f"---\n{FRONT}---  ",
    "empty line before the last": f"---\n{FRONT}\n---\n# Title\n", "cr": f"---\n{FRONT}".replace("\n", "\r") + "---\n# Title\r", "mixed": f"---\r\n{FRONT}---\r\n# Title\n", "lines in the text": LF + "\n---\n\nmore: text\n\n---\n",
    "form feed first": "\x0c\x1c" + LF, "a comment": LF.replace("license", "# free\nlicense"), "as mlx_lm writes it": LF.replace("transformers", "mlx"),
}
NONE = {"no card": None, "no front matter": "# Title\n", "four dashes": LF.replace("---", "----"), "a space in front": f"---\n{FRONT} ---\n# Title\n", "a space behind the first line": "--- \n" + LF[4:], "empty": ""}


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    return write(Spec(moe=False), tmp_path_factory.mktemp("card") / "source")


def with_card(source: Path, directory: Path, text: str | None) -> Path:
    directory.mkdir()
    for path in source.iterdir():
        (directory / path.name).hardlink_to(path)
    if text is not None:
        (directory / "README.md").write_bytes(text.encode())
    return directory


def found(directory: Path) -> dict:
    return ModelCard.load(directory / "README.md").data.to_dict()


def assert_one(directory: Path) -> None:
    card = ModelCard.load(directory / "README.md")
    text = (directory / "README.md").read_bytes().decode()
    assert text.count(NOTE) == 1, text
    assert ModelCard(card.text).data.to_dict() == {}, "a second front matter"


@pytest.mark.parametrize("name", CARDS)
def test_the_front_matter_survives(metalcast, source, tmp_path, name):
    directory = with_card(source, tmp_path / "source", CARDS[name])
    before = found(directory)
    assert before["license"] == "apache-2.0", "huggingface_hub does not read this spelling"
    metalcast.run("convert", directory, tmp_path / "bf16")
    assert found(tmp_path / "bf16") == before
    assert_one(tmp_path / "bf16")
    assert ("# Title" in CARDS[name]) == ("# Title" in (tmp_path / "bf16" / "README.md").read_text())
    metalcast.run("verify", directory, tmp_path / "bf16")

    metalcast.run("convert", directory, tmp_path / "4bit", "-q")
    mlx = {"library_name": "mlx", "pipeline_tag": "text-generation", "tags": [*before["tags"], "mlx"]}
    assert found(tmp_path / "4bit") == before | mlx
    assert_one(tmp_path / "4bit")

    metalcast.run("convert", tmp_path / "bf16", tmp_path / "again", "-q")  # twice more
    assert found(tmp_path / "again") == before | mlx
    assert_one(tmp_path / "again")
    metalcast.run("convert", tmp_path / "bf16", tmp_path / "f16", "--dtype", "float16")
    metalcast.run("convert", tmp_path / "f16", tmp_path / "third", "--layout", "mlx")
    assert found(tmp_path / "third") == before | mlx
    assert_one(tmp_path / "third")


@pytest.mark.parametrize("name", NONE)
def test_without_front_matter_there_is_none(metalcast, source, tmp_path, name):
    directory = with_card(source, tmp_path / "source", NONE[name])
    metalcast.run("convert", directory, tmp_path / "bf16")
    if NONE[name]:
        assert found(directory) == {}, "huggingface_hub reads this spelling"
        assert NONE[name].removeprefix("\n") in (tmp_path / "bf16" / "README.md").read_text()
    assert found(tmp_path / "bf16") == {}
    metalcast.run("convert", tmp_path / "bf16", tmp_path / "4bit", "-q")
    assert found(tmp_path / "4bit") == {"library_name": "mlx", "pipeline_tag": "text-generation", "tags": ["mlx"]}
    assert_one(tmp_path / "4bit")
