"""Runs commands in turn, in several rounds, each from the same state of the machine, and records
time, CPU time and peak memory as the operating system counts them."""

import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent


@dataclass
class Contestant:
    """A command to measure; {src} and {dst} stand for source and destination."""

    name: str
    command: list[str]
    src: Path
    reference: Path | None = None  # metalcast's output, which the result should equal
    seconds: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    peak: float = 0  # MiB
    start: float = 0  # seconds before the conversion: the interpreter and its imports
    same: str = ""  # result of the comparison with the reference
    loads: str = ""  # what mlx-lm made of the result
    failed: str = ""

    def row(self) -> dict:
        row = {"name": self.name, "seconds": self.seconds, "cpu_seconds": self.cpu, "peak_mib": self.peak}
        return row | {key: value for key, value in (("same", self.same), ("loads", self.loads), ("failed", self.failed), ("start_seconds", self.start)) if value}


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def seconds(command: list) -> float:
    """The median of three runs."""
    found = []
    for _ in range(3):
        start = time.monotonic()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        found.append(time.monotonic() - start)
    return round(sorted(found)[1], 3)


def available_memory() -> int:
    try:
        with open("/proc/meminfo") as lines:
            return next(int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable"))
    except OSError:
        return 0


def evict(src: Path) -> None:
    """Evicts the source's weights, and nothing else, from the page cache: peers should not have to
    load their libraries again."""
    for path in src.glob("*.safetensors"):
        if hasattr(os, "posix_fadvise"):
            with path.open("rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def prepare(copy: Path, src: Path, dst: Path) -> None:
    """The same state for every run: no destination, nothing dirty, free memory mapped, a cold
    source."""
    remove(dst)
    os.sync()
    if touch := min(available_memory() * 6 // 10, 3 * disk_size(src)):
        subprocess.run([copy, "touch", str(touch)], check=True)
    evict(src)


def disk_size(src: Path) -> int:
    """The disk space of the shards, without holes."""
    return sum(path.stat().st_blocks * 512 for path in src.glob("*.safetensors"))


def remove(dst: Path) -> None:
    for path in (dst, dst.with_name(dst.name + ".partial")):
        shutil.rmtree(path, ignore_errors=True)


def sync(dst: Path) -> None:
    """Syncing what a contestant has not synced itself is part of its time."""
    for path in dst.glob("*") if dst.is_dir() else []:
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)


def run(contestant: Contestant, dst: Path, log) -> None:
    """Runs the command once. Its process is a child of this one, which is small, because a child's
    peak starts at its parent's size."""
    command = [str(part).replace("{src}", str(contestant.src)).replace("{dst}", str(dst)) for part in contestant.command]
    log.seek(0)
    log.truncate()
    start = time.monotonic()
    pid = os.posix_spawnp(command[0], command, dict(os.environ) | {"HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""},
                          file_actions=[(os.POSIX_SPAWN_DUP2, log.fileno(), 1), (os.POSIX_SPAWN_DUP2, log.fileno(), 2)])
    try:
        _, status, usage = os.wait4(pid, 0)
    except BaseException:
        os.kill(pid, signal.SIGTERM)
        os.waitpid(pid, 0)
        raise
    sync(dst)
    seconds = time.monotonic() - start
    if status != 0:
        log.seek(0)
        last = [line.strip() for line in log.read().decode(errors="replace").splitlines() if line.strip()][-1:]
        contestant.failed = last[0][:300] if last else f"status {os.waitstatus_to_exitcode(status)}"
        return
    contestant.seconds.append(round(seconds, 3))
    contestant.cpu.append(round(usage.ru_utime + usage.ru_stime, 3))
    contestant.peak = max(contestant.peak, round(usage.ru_maxrss / (1 << 20 if sys.platform == "darwin" else 1 << 10)))


def loads(python: str, checkpoint: Path) -> str:
    result = subprocess.run([python, HERE / "loads.py", checkpoint], capture_output=True, text=True)
    return (result.stdout.strip() or result.stderr.strip() or "no answer").splitlines()[-1]


def contest(contestants: list[Contestant], rounds: int, copy: Path, work: Path, loader: str | None = None) -> list[dict]:
    """Measures all in turn, each round in a different order; after the first, compares results and
    has mlx-lm of the interpreter loader load them."""
    dst = work / "dst"
    with tempfile.TemporaryFile() as log:
        for n in range(rounds):
            shift = n * 2 % len(contestants)
            for c in contestants[shift:] + contestants[:shift]:
                if c.failed:
                    continue
                prepare(copy, c.src, dst)
                run(c, dst, log)
                say(f"  {n + 1}/{rounds} {c.name}: " + (c.failed or f"{c.seconds[-1]:.2f} s, CPU {c.cpu[-1]:.2f} s, {c.peak:.0f} MiB"))
                if c.reference and n == 0 and not c.failed:
                    result = subprocess.run([sys.executable, HERE / "same.py", c.reference, dst], capture_output=True, text=True)
                    c.same = result.stdout.strip() or result.stderr.strip().splitlines()[-1]
                    say(f"    {c.same}")
                    if loader:
                        c.loads = loads(loader, dst)
                        say(f"    mlx-lm: {c.loads}")
                remove(dst)
    return [c.row() for c in contestants]


def machine() -> dict:
    processor = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo") as lines:
            processor = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {"date": time.strftime("%Y-%m-%d"), "system": f"{platform.system()} {platform.release()}", "processor": processor, "cores": os.cpu_count(),
            "memory_gib": round(pages / (1 << 30)), "load": round(os.getloadavg()[0], 1)}
