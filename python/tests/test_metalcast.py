import json
import pickle
import re
import shutil
import typing
from pathlib import Path

import pytest

import metalcast
from conftest import files, program
from metalcast import _documents


def test_both_doors_write_the_same(source, tmp_path):
    seen = []
    report = metalcast.convert(source, tmp_path / "a", progress=lambda *event: seen.append(event))
    assert program("convert", source, tmp_path / "b").returncode == 0
    assert files(tmp_path / "a") == files(tmp_path / "b")
    assert report["destination"] == str(tmp_path / "a") and report["layout"] == "stacked" and not report["verified"]
    phase, done, total, seconds = seen[-1]
    assert phase == "converting" and done == total > 0 and seconds > 0
    assert seen[0][1] == 0


def test_keywords_are_flags(source, tmp_path):
    report = metalcast.convert(
        str(source), str(tmp_path / "a"), quantize=True, q_bits=8, q_override=["*.linear_attn.out_proj=4", "*lm_head=none"], layout=None, verify=True, max_memory="256MiB", hashes=False)
    flags = "-q --q-bits 8 --q-override *.linear_attn.out_proj=4 --q-override *lm_head=none --verify --max-memory 256MiB".split()
    assert program("convert", source, tmp_path / "b", *flags).returncode == 0
    assert files(tmp_path / "a") == files(tmp_path / "b")
    assert report["verified"] and report["quantization"]["bits"] == 8
    assert {"*.linear_attn.out_proj=4", "*lm_head=none"} <= set(json.loads((tmp_path / "a" / "metalcast.json").read_text())["options"]["quantize"]["overrides"])


def test_a_path_is_no_flag(source, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(source, "--json")
    metalcast.convert(Path("--json"), "-q")
    assert (tmp_path / "-q" / "config.json").exists()


def test_plan_and_inspect(source):
    assert metalcast.plan(source, dtype="float32")["dtype"] == "float32"
    assert len(metalcast.plan(source)["tensors"]) == json.loads(program("plan", source, "--json").stdout)["tensors"].__len__()
    seen = []
    assert metalcast.inspect(source, scan=True, progress=lambda *event: seen.append(event[0]))["scanned"]
    assert set(seen) == {"scanning"}
    assert "scanned" not in metalcast.inspect(source)


def test_verify(source, tmp_path):
    metalcast.convert(source, tmp_path / "out")
    seen = []
    result = metalcast.verify(source, tmp_path / "out", progress=lambda phase, *_: seen.append(phase))
    assert result["bytes_compared"] == result["bytes"] and set(seen) == {"verifying"}
    shard = next((tmp_path / "out").glob("*.safetensors"))
    content = bytearray(shard.read_bytes())
    content[-1] ^= 1
    shard.write_bytes(content)
    with pytest.raises(metalcast.Mismatch, match=f"{shard.name}: tensor .* differs at") as caught:
        metalcast.verify(source, tmp_path / "out")
    assert caught.value.status == 7 and len(caught.value.document["differences"]) == 1
    (tmp_path / "out" / "config.json").write_text("{}")
    with pytest.raises(metalcast.Mismatch, match="config.json"):
        metalcast.verify(source, tmp_path / "out")


def test_errors_by_status(source, tmp_path):
    for kind, status, text, hint, call in [
        (metalcast.UsageError, 2, "--q-...", None, lambda: metalcast.convert(source, tmp_path / "x", q_bits=4)),
        (metalcast.UsageError, 2, "unknown flag: --bits", "--help", lambda: metalcast.convert(source, tmp_path / "x", bits=4)),
        (metalcast.UsageError, 2, "DType", None, lambda: metalcast.plan(source, DType="float32")),
        (metalcast.UsageError, 2, "float8", None, lambda: metalcast.plan(source, dtype="float8")),
        (metalcast.InvalidCheckpoint, 3, "no such directory", "hub cache", lambda: metalcast.inspect(tmp_path / "none")),
        (metalcast.NoSpace, 5, "memory", None, lambda: metalcast.plan(source, max_memory="1MiB")),
        (metalcast.InvalidCheckpoint, 3, "no such directory", None, lambda: metalcast.verify(source, tmp_path / "none")),
    ]:
        with pytest.raises(kind, match=re.escape(text)) as caught:
            call()
        error = caught.value
        assert error.status == status and type(error) is kind and text in error.message
        assert (hint or "") in (error.hint or "") and (error.hint or "") in str(error)
        again = pickle.loads(pickle.dumps(error))  # as multiprocessing sends it
        assert (type(again), str(again), again.document) == (kind, str(error), error.document)
    assert list(tmp_path.iterdir()) == []


def test_nothing_to_do(source, tmp_path):
    metalcast.convert(source, tmp_path / "out")
    with pytest.raises(metalcast.NothingToDo) as caught:
        metalcast.convert(tmp_path / "out", tmp_path / "again")
    assert caught.value.document["source"] == str(tmp_path / "out")


def test_every_status_has_its_class():
    help_text = program("convert", "--help").stdout.replace("\n", " ")
    statuses = re.search(r"Exit status: (.*?)interrupted", help_text).group(1)
    assert {int(n) for n in re.findall(r"\b(\d+) ", statuses)} - {0, 1} == set(metalcast.ERRORS)


@pytest.mark.parametrize("command, options", [("convert", _documents.ConvertOptions), ("plan", _documents.PlanOptions), ("verify", _documents.VerifyOptions)])
def test_every_flag_has_a_type(command, options):
    ours = {"json", "progress", "help", "quiet"}  # flags that the package itself passes
    # arguments, what is printed for people, and other documents
    others = {"hf-path", "model", "mlx-path", "upload-repo", "dry-run", "error", "html"}
    flags = set(re.findall(r"^ +(?:-\w, |    )?--([a-z-]+)", program(command, "--help").stdout, re.MULTILINE)) - ours - others
    assert {name.replace("_", "-") for name in typing.get_type_hints(options)} == flags


@pytest.mark.parametrize("call, document", [
    (lambda source, out: metalcast.convert(source, out, quantize=True, verify=True), _documents.Report), (lambda source, _: metalcast.plan(source), _documents.Plan),
    (lambda source, _: metalcast.inspect(source, scan=True), _documents.Inspection),
    (lambda source, out: (metalcast.convert(source, out), metalcast.verify(source, out))[1], _documents.Verification)])
def test_documents_are_as_typed(source, tmp_path, call, document):
    plain = {str: str, int: int, bool: bool, float: (int, float)}
    hints = typing.get_type_hints(document)
    for key, value in call(source, tmp_path / "out").items():
        assert key in hints, f"{key} has no type"
        origin = typing.get_origin(hints[key]) or plain[hints[key]]
        assert isinstance(value, origin), f"{key}: {value!r} is no {hints[key]}"
        for row in value if origin is list else []:
            assert isinstance(row, typing.get_origin(typing.get_args(hints[key])[0]) or typing.get_args(hints[key])[0]), key
