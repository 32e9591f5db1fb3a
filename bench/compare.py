#!/usr/bin/env python3
"""Measures metalcast beside copies and other converters of the same checkpoint. bench/report.py
turns the results into docs/performance.md.

Everything converts the same synthetic checkpoint with the structure of Qwen3.6-35B-A3B-FP8, in
turn, in several rounds of different order. Before each run the destination is removed, everything
is synced, memory is touched and the source is evicted from the page cache; a run's time ends when
its output is synced.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import measure
import report
from measure import HERE, Contestant, say

ROOT = HERE.parent
TOOL = ROOT / "bin" / "metalcast"
UNITS = {"MB": 10**6, "GB": 10**9}
COPIES = {"plain copy loop": ["naive"], "paced copy, 2 threads": ["paced"], "paced copy, 8 threads": ["paced", 8, 2 << 20, 64 << 20]}
if sys.platform == "linux":
    COPIES["direct copy, 8 threads"] = ["direct", 8, 4 << 20, 0]


def size(text: str) -> int:
    return int(float(text[:-2]) * UNITS[text[-2:]])


class Bench:
    def __init__(self, options: argparse.Namespace, work: Path):
        self.options, self.work = options, work
        self.copy = work / "copy"
        subprocess.run([os.environ.get("CC", "cc"), "-O2", "-o", self.copy, HERE / "copy.c", "-lpthread"], check=True)
        self.quick = options.what == "quick"
        self.rounds = options.rounds or (2 if self.quick else 5)
        self.size = options.size or ("500MB" if self.quick else "2GB")
        self.skipped: list[str] = []

    def tool(self, *arguments) -> str:
        return subprocess.run([TOOL, *map(str, arguments)], check=True, stdout=subprocess.PIPE, text=True).stdout

    def synth(self, name: str, *arguments) -> Path:
        src = self.work / name
        if not src.exists():
            self.tool("synth", src, "--quiet", *arguments)
        return src

    def convert(self, src: Path, dst: Path, *arguments) -> dict:
        """An unmeasured conversion: returns its report, and the output that others are compared
        with."""
        return json.loads(self.tool("convert", src, dst, "--json", "--quiet", *arguments))

    def copies(self, src: Path, written: int) -> list[Contestant]:
        return [Contestant(name, [self.copy, mode, "{src}", "{dst}", written, *map(str, more)], src) for name, (mode, *more) in COPIES.items()]

    def peers(self, src: Path, reference: Path) -> list[Contestant]:
        found = []
        for name, python, code in [("torch", self.options.torch_python, "import torch, safetensors.torch"), ("mlx", self.options.mlx_python, "import mlx.core"),
                                   ("compressed-tensors", self.options.torch_python, "from compressed_tensors.entrypoints.convert import convert_checkpoint"),
                                   ("transformers", self.options.torch_python, "import torch; from transformers import AutoModelForImageTextToText")]:
            if self.there(name, python, code):
                start = measure.seconds([python, "-c", code])
                found.append(Contestant(name, [python, HERE / "peers" / f"{name.replace('-', '_')}_convert.py", "{src}", "{dst}"], src, reference, start=start))
        return found

    def there(self, name: str, python: str | None, code: str) -> bool:
        """Also loads the modules' files, so that no first round does."""
        found = python and shutil.which(python)
        if found and subprocess.run([found, "-c", code], stderr=subprocess.DEVNULL).returncode == 0:
            return True
        self.skip(f"{name}: " + (f"its interpreter fails at {code}" if found else "there is no interpreter for it"))
        return False

    def skip(self, what: str) -> None:
        if what not in self.skipped:
            self.skipped.append(what)
            say(f"skipped: {what}")

    def room(self, text: str, times: float) -> bool:
        """Whether there is disk space for that many times the source."""
        need, free = times * size(text), shutil.disk_usage(self.work).free
        if free < need:
            self.skip(f"{text}: {need / 1e9:.0f} GB of disk are needed, {free / 1e9:.0f} are free")
        return free >= need

    def loader(self) -> str | None:
        """An interpreter that has mlx-lm."""
        return self.options.mlx_python if self.there("loading with mlx-lm", self.options.mlx_python, "import mlx_lm") else None

    def group(self, title: str, contestants: list[Contestant], rounds: int = 0, facts: dict | None = None, loader: str | None = None) -> dict:
        say(title)
        counted = {key: facts[key] for key in ("source_tensors", "bytes_read", "bytes_written")} if facts else {}
        return {"title": title, **counted, "rows": measure.contest(contestants, rounds or self.rounds, self.copy, self.work, loader)}

    def conversions(self) -> list[dict]:
        text = self.size
        if not self.room(text, 6):
            return []
        src, reference = self.synth(text, "--size", text), self.work / "reference"
        facts = self.convert(src, reference)
        tool = Contestant("metalcast", [TOOL, "convert", "{src}", "{dst}"], src, reference)
        found = [self.group(f"FP8 to bfloat16, {text}", [tool, *self.copies(src, facts["bytes_written"]), *self.peers(src, reference)], 0, facts)]
        shutil.rmtree(reference)
        return found

    def quantizing(self) -> list[dict]:
        text = self.size
        if not self.room(text, 6):
            return []
        src, bf16, reference = self.synth(text, "--size", text), self.work / "bf16", self.work / "reference"
        self.convert(src, bf16)
        facts = self.convert(src, reference, "-q", "--q-profile", "cpu")
        contestants = [Contestant("metalcast -q", [TOOL, "convert", "{src}", "{dst}", "-q"], src), *self.copies(src, facts["bytes_written"])]
        if self.there("mlx_lm.convert", self.options.mlx_python, "import mlx_lm"):
            contestants.append(Contestant("mlx_lm.convert -q of the bfloat16 checkpoint",
                                          [self.options.mlx_python, "-m", "mlx_lm", "convert", "--hf-path", "{src}", "--mlx-path", "{dst}", "-q"], bf16, reference))
        found = [self.group(f"FP8 straight to 4 bits, {text}", contestants, 0, facts)]
        for path in (bf16, reference):
            shutil.rmtree(path)
        return found

    def loads(self) -> list[dict]:
        """What mlx-lm makes of the release and of each converter's result: once, with a small
        release, as nothing is timed."""
        if not (python := self.loader()):
            return []
        src, reference, quantized = self.synth("500MB", "--size", "500MB"), self.work / "reference", self.work / "quantized"
        self.convert(src, reference)
        self.convert(src, quantized, "-q", "--q-profile", "cpu")
        contestants = [Contestant("metalcast", [TOOL, "convert", "{src}", "{dst}"], src, reference), *self.peers(src, reference),
                       Contestant("metalcast -q", [TOOL, "convert", "{src}", "{dst}", "-q", "--q-profile", "cpu"], src, quantized),
                       Contestant("mlx_lm.convert -q", [python, "-m", "mlx_lm", "convert", "--hf-path", "{src}", "--mlx-path", "{dst}", "-q"], reference, quantized)]
        found = self.group("what mlx-lm makes of each result, 500MB", contestants, 1, None, python)
        version = subprocess.run([python, "-c", "import importlib.metadata as m; print(m.version('mlx-lm'))"], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
        found |= {"release": measure.loads(python, src), "mlx_lm": version}
        for path in (reference, quantized):
            shutil.rmtree(path)
        return [found]

    def sizes(self) -> list[dict]:
        found = []
        for text in self.options.sizes or (["500MB", "1GB"] if self.quick else ["1GB", "2GB", "4GB", "8GB", "16GB"]):
            if not self.room(text, 3.05):
                continue
            src = self.synth(text, "--size", text)
            facts = self.convert(src, self.work / "dst")
            measure.remove(self.work / "dst")
            tool = Contestant("metalcast", [TOOL, "convert", "{src}", "{dst}"], src)
            found.append(self.group(text, [tool, *self.copies(src, facts["bytes_written"])], self.options.rounds or (1 if self.quick else 5 if text == "8GB" else 3), facts))
            shutil.rmtree(src)
        return found

    def many(self) -> list[dict]:
        """Many tensors: what a tensor costs, in time and in memory."""
        tiny, wide, sparse = self.synth("tiny"), self.synth("wide", "--layers", 65), self.work / "sparse"
        subprocess.run([sys.executable, HERE / "sparse.py", sparse], check=True, stdout=subprocess.DEVNULL)
        facts = self.convert(tiny, self.work / "dst")
        measure.remove(self.work / "dst")
        found = [
            self.group("the synthetic release: 62,303 tensors, 32 MiB", [Contestant("metalcast", [TOOL, "convert", "{src}", "{dst}"], tiny),
                                                                        *self.copies(tiny, facts["bytes_written"])], 0, facts),
            self.group("101,241 tensors in 128 MiB of memory",
                       [Contestant("metalcast --max-memory 128MiB", [TOOL, "convert", "{src}", "{dst}", "--max-memory", "128MiB"], wide)]),
            self.group("planning 199,824 tensors in 300 sparse shards", [Contestant("metalcast plan", [TOOL, "plan", "{src}"], sparse)]),
        ]
        if not self.quick:
            found.append(self.group("the same, 160 GB of holes, read and computed, the results thrown away", [Contestant("metalcast inspect --scan", [TOOL, "inspect", "--scan", "{src}"], sparse)], 1))
        for path in (tiny, wide, sparse):
            shutil.rmtree(path)
        return found

    def machine(self) -> list[dict]:
        """Kernels and disk, measured by metalcast bench; before and after it the C library's memcpy
        of as many bytes."""
        say("metalcast bench")
        memcpy = [self.memcpy()]
        found = json.loads(self.tool("bench", "--json", "--dir", self.work, "--size", "64MiB" if self.quick else "1GiB"))
        return [found | {"c_memcpy_gb_per_second": [*memcpy, self.memcpy()]}]

    def memcpy(self) -> float:
        return float(subprocess.run([self.copy, "memcpy", str(96 << 20)], check=True, stdout=subprocess.PIPE, text=True).stdout)


SECTIONS = {"machine": Bench.machine, "conversions": Bench.conversions, "quantizing": Bench.quantizing, "loads": Bench.loads, "sizes": Bench.sizes, "many": Bench.many}


def usual(variable: str, environment: str) -> str | None:
    python = ROOT / environment / "bin" / "python"
    return os.environ.get(variable) or (str(python) if python.exists() else None)


def options() -> argparse.Namespace:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("what", nargs="?", default="quick", choices=["quick", "full", *SECTIONS],
                   help="quick: all, small, tables to standard output; full or one section: into bench/results and docs/performance.md")
    p.add_argument("--torch-python", default=usual("TORCH_PYTHON", ".venv-torch"), help="with bench/peers/requirements.txt (default $TORCH_PYTHON, .venv-torch)")
    p.add_argument("--mlx-python", default=usual("MLX_PYTHON", ".venv"), help="with mlx and mlx-lm (default $MLX_PYTHON, .venv, which ./build.sh consumers makes)")
    p.add_argument("--work", type=Path, help="where checkpoints are made and removed (default the system's temporary directory); 50 GB for everything")
    p.add_argument("--rounds", type=int, default=0, help="default 5, for sizes but 8GB 3; quick 2 and 1")
    p.add_argument("--size", help="of the checkpoint that is converted and quantized: 500MB, 2GB")
    p.add_argument("--other", action="store_true", help="keep the results as those of another machine, beside what there is")
    p.add_argument("--sizes", nargs="+", help="of those whose growth is measured")
    return p.parse_args()


def command(o: argparse.Namespace) -> str:
    """Without paths of this machine."""
    chosen = [f"--{name} {value if isinstance(value, (str, int)) else ' '.join(value)}" for name in ("rounds", "size", "sizes") if (value := getattr(o, name))]
    return " ".join(["./build.sh bench", o.what, *chosen])


def main() -> None:
    o = options()
    # which removes what there is, as Ctrl-C does
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    results = {}
    with tempfile.TemporaryDirectory(prefix="metalcast-bench-", dir=o.work) as work:
        bench = Bench(o, Path(work))
        for name in SECTIONS if o.what in ("quick", "full") else [o.what]:
            about = {"machine": measure.machine(), "command": command(o)}
            bench.skipped = []
            results[name] = about | {"groups": SECTIONS[name](bench), "skipped": bench.skipped}
            if o.what != "quick":
                report.save(name, results[name], report.OTHER if o.other else report.RESULTS)
    if o.what == "quick":
        print(report.text(results))
    else:
        report.write()


if __name__ == "__main__":
    main()
