"""The program as a process: where it is found, how it ends, what is passed between the two."""

import os
import signal
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

import pytest

import metalcast
from conftest import files, program


def test_finds_what_is_installed(monkeypatch, tmp_path, fake):
    monkeypatch.delenv("METALCAST_BINARY", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    installed = metalcast.binary()
    assert Path(installed).parent == Path(sysconfig.get_path("scripts"))
    assert os.access(installed, os.X_OK)
    assert metalcast.binary() == installed, "and not by PATH"
    assert metalcast.binary() != str(fake("exit 0")) == metalcast.binary()


def test_finds_it_in_path_at_last(monkeypatch, tmp_path, fake):
    fake("exit 0").rename(tmp_path / "metalcast")
    monkeypatch.delenv("METALCAST_BINARY")
    nowhere = tmp_path / "nowhere"
    monkeypatch.setattr(sysconfig, "get_path", lambda *_: str(nowhere))
    monkeypatch.setattr(sys, "executable", str(nowhere / "python"))
    monkeypatch.setattr(metalcast.site, "getuserbase", lambda: str(nowhere))
    monkeypatch.setattr(metalcast, "__file__", str(nowhere / "metalcast" / "__init__.py"))
    monkeypatch.setenv("PATH", str(nowhere))
    with pytest.raises(FileNotFoundError, match="METALCAST_BINARY"):
        metalcast.binary()
    monkeypatch.setenv("PATH", str(tmp_path))
    assert metalcast.binary() == str(tmp_path / "metalcast")


def test_module_runs_the_program(tmp_path):
    run = subprocess.run([sys.executable, "-m", "metalcast", "version"], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert (run.returncode, run.stdout) == (0, program("version").stdout)
    run = subprocess.run([sys.executable, "-m", "metalcast", "convert"], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert run.returncode == 2 and "nothing to convert" in run.stderr


def test_warnings_are_warnings(fake):
    fake('''echo '{"event":"message","text":"warning: the GPU failed"}' >&2; echo '{"event":"message","text":"a word"}' >&2; echo '{"source": "x"}' ''')
    with pytest.warns(metalcast.MetalcastWarning, match="^the GPU failed$") as caught:
        assert metalcast.inspect("x") == {"source": "x"}
    assert len(caught) == 1 and caught[0].filename == __file__


@pytest.mark.parametrize("script, kind, text", [
    ("kill -KILL $$", metalcast.Error, "no result, ended with signal 9"),
    ("exit 1", metalcast.Error, "no result, ended with status 1"),
    ("exit 0", metalcast.Error, "no result, ended with status 0"),
    ("printf '{\"source\": '; exit 0", metalcast.Error, "ended with status 0"),
    ("echo a trace >&2; echo of a panic >&2; exit 1", metalcast.Error, "a trace; of a panic"),
    ("echo '{\"event\":\"message\",\"text\":\"error: standard output: no space left on device\"}' >&2; exit 1", metalcast.Error, "standard output: no space left"),
    ("echo '{\"error\": \"x\", \"exit_code\": 6}'; exit 6", metalcast.Error, "x"),
    ("printf '\\377\\n' >&2; exit 3", metalcast.InvalidCheckpoint, "\ufffd"),
    ("echo '{\"event\":\"message\",\"text\":\"note: resuming\"}' >&2; kill -KILL $$", metalcast.Error, "ended with signal 9; note: resuming"),
    ("echo '{\"event\":\"progr' >&2; echo '{\"x\":1}' >&2; exit 1", metalcast.Error, "ended with status 1; .\"event\":\"progr$"),
    ("echo '{\"error\": \"x\", \"exit_code\": 3}'; exit 0", metalcast.InvalidCheckpoint, "^x$"),
])
def test_odd_ends(fake, script, kind, text):
    fake(script)
    with pytest.raises(kind, match=text) as caught:
        metalcast.plan("x")
    assert type(caught.value) is kind


def test_more_than_a_pipe_holds(fake):
    fake("""i=0; while [ $i -lt 3000 ]; do echo '{"event":"progress","phase":"p","bytes":1,"total":2,"seconds":0.5}' >&2; i=$((i+1)); done
echo '{"source": "'; head -c 300000 /dev/zero | tr '\\0' x; echo '"}' """.replace('"source": "\'; ', '"source": "\' | tr -d "\\n"; '))
    assert len(metalcast.plan("x")["source"]) == 300000


def test_an_error_of_progress_ends_the_program(source, tmp_path, fake):
    real = metalcast.binary()
    fake(f'echo $$ > {tmp_path}/pid; exec {real} "$@"')

    def stop(*_):
        raise LookupError("enough")

    with pytest.raises(LookupError, match="enough"):
        metalcast.convert(source, tmp_path / "out", progress=stop)
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


CALL = "import metalcast, sys; metalcast.convert(sys.argv[1], sys.argv[2], max_memory='64MiB', progress=lambda *e: print(*e, flush=True))"


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    path = tmp_path_factory.mktemp("large") / "fp8"
    assert program("synth", path, "--quiet", "--size", "150MB").returncode == 0
    return path


@pytest.mark.parametrize("whole_group", [False, True], ids=["one process", "as a terminal does"])
def test_ctrl_c_keeps_what_is_done(large, tmp_path, whole_group):
    out = tmp_path / "out"
    for _ in range(20):  # on a busy machine the signal may arrive after the last byte
        process = subprocess.Popen([sys.executable, "-c", CALL, large, out], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
                                   env={**os.environ, "GOMAXPROCS": "1"})
        while int((process.stdout.readline() or "converting 1").split()[1]) == 0:
            pass
        (os.killpg if whole_group else os.kill)(process.pid, signal.SIGINT)
        _, errors = process.communicate(timeout=60)
        if (tmp_path / "out.partial").is_dir():
            break
        if out.exists():
            out.rename(tmp_path / f"out{time.monotonic_ns()}")
    assert "KeyboardInterrupt" in errors and process.returncode == -signal.SIGINT
    assert not out.exists() and (tmp_path / "out.partial").is_dir()
    report = metalcast.convert(large, out, max_memory="64MiB")
    assert report["resumed"] and not (tmp_path / "out.partial").exists()
    metalcast.convert(large, tmp_path / "whole")
    assert files(out) == files(tmp_path / "whole")


COUNT = """import signal, sys, time
count = []
signal.signal(signal.SIGINT, lambda *_: count.append(1))
print('{"event":"progress","phase":"converting","bytes":1,"total":2,"seconds":0}', file=sys.stderr, flush=True)
while not count:
    time.sleep(0.01)
for _ in range(50):
    time.sleep(0.01)
open(sys.argv[1], "w").write(str(len(count)))
sys.exit(130)
"""


def test_one_ctrl_c_is_one_signal(fake, tmp_path):
    (tmp_path / "count.py").write_text(COUNT)
    program = fake(f"exec {sys.executable} {tmp_path}/count.py {tmp_path}/count")
    process = subprocess.Popen([sys.executable, "-c", CALL, "x", "y"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, start_new_session=True,
                               env={**os.environ, "METALCAST_BINARY": str(program)})
    assert process.stdout.readline().startswith("converting 1 2")
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    process.communicate(timeout=60)
    assert (tmp_path / "count").read_text() == "1", "the second would end it at once"


def test_a_signal_to_the_program_is_no_ctrl_c(fake):
    fake('''echo '{"error": "interrupted", "kept": "x.partial", "exit_code": 130}'; exit 130''')
    with pytest.raises(metalcast.Interrupted) as caught:
        metalcast.convert("x", "y")
    assert caught.value.document["kept"] == "x.partial" and isinstance(caught.value, Exception)
