"""The suite runs where the wheel is installed (./build.sh wheel). It needs only the wheel and
pytest."""

import os
import signal
import subprocess
from pathlib import Path

import pytest

import metalcast

# A shell starts what runs in the background with SIGINT ignored, and children inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)


def program(*args, **more):
    """Runs the program itself, not the package."""
    return subprocess.run([metalcast.binary(), *map(str, args)], capture_output=True, text=True, check=False, **more)


@pytest.fixture(scope="session")
def source(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("source") / "fp8"
    done = program("synth", path, "--quiet", "--layers", "2", "--experts", "4")
    assert done.returncode == 0, done.stderr
    return path


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """Substitutes a shell script for the program."""

    def make(text: str) -> Path:
        path = tmp_path / "fake"
        path.write_text("#!/bin/sh\n" + text)
        path.chmod(0o755)
        monkeypatch.setenv("METALCAST_BINARY", os.fspath(path))
        return path

    return make


def files(directory: Path) -> dict:
    return {p.relative_to(directory).as_posix(): p.read_bytes() for p in directory.rglob("*") if p.is_file()}
