"""Finds the packages and the program, and makes each checkpoint and each conversion once for all
tests."""

import importlib
import os
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import pytest

HERE = Path(__file__).parent
REQUIRED = "consumers" in os.environ.get("METALCAST_REQUIRE", "")


def find_missing() -> list[str]:
    missing = []
    for name in ("numpy", "ml_dtypes", "safetensors", "tokenizers", "gguf", "mlx.core", "mlx_lm", "mlx_vlm"):
        try:
            importlib.import_module(name)
        except ImportError as error:
            missing.append(f"{name} ({error})")
    return missing


MISSING = find_missing()
# Without these imports no other module can even be collected; test_packages.py then skips or fails
# instead.
collect_ignore = [p.name for p in HERE.glob("test_*.py") if p.name != "test_packages.py"] if MISSING else []

if not MISSING:
    import mlx.core as mx
    mx.set_default_device(mx.cpu)  # the same arithmetic on every machine, and any head size


@dataclass
class Tool:
    path: Path

    def attempt(self, *args: object) -> subprocess.CompletedProcess:
        return subprocess.run([self.path, *map(str, args)], capture_output=True, text=True, check=False)

    def run(self, *args: object, status: int = 0) -> subprocess.CompletedProcess:
        done = self.attempt(*args)
        if done.returncode != status:
            pytest.fail(f"metalcast {' '.join(map(str, args))}: exit {done.returncode}, want {status}\n{done.stderr}", pytrace=False)
        return done


@pytest.fixture(scope="session")
def metalcast() -> Tool:
    path = Path(os.environ.get("METALCAST", HERE.parent / "bin" / "metalcast")).absolute()
    if not os.access(path, os.X_OK):
        pytest.fail(f"{path} is not there: run ./build.sh build, or name the tool in METALCAST", pytrace=False)
    return Tool(path)


@dataclass
class Bench:
    """Sources and conversions by their parameters, shared between tests, which must not write into
    these directories."""

    tool: Tool
    root: Path
    sources: dict = field(default_factory=dict)
    outputs: dict = field(default_factory=dict)

    def source(self, spec) -> Path:
        if spec not in self.sources:
            import checkpoints
            self.sources[spec] = checkpoints.write(spec, self.root / f"source{len(self.sources)}")
        return self.sources[spec]

    def converted(self, spec, options) -> Path:
        if (spec, options) not in self.outputs:
            target = self.root / f"output{len(self.outputs)}"
            self.tool.run("convert", self.source(spec), target, *options.flags())
            self.outputs[spec, options] = target
        return self.outputs[spec, options]


@pytest.fixture(scope="session")
def bench(metalcast: Tool, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(metalcast, tmp_path_factory.mktemp("bench"))


@pytest.fixture(scope="session")
def shelf(metalcast: Tool, tmp_path_factory: pytest.TempPathFactory):
    from shelf import Shelf
    return Shelf(metalcast, tmp_path_factory.mktemp("shelf"))
