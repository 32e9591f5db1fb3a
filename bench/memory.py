#!/usr/bin/env python3
"""Converts synthetic checkpoints of growing size and prints time and peak memory, as the operating system counts it.

usage: python3 bench/memory.py [SIZE...]    sizes as metalcast synth takes them; default 500MB 2GB 8GB
TMPDIR says where; three times the largest size must be free there.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile

TOOL = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "bin", "metalcast")


def convert(src: str, dst: str) -> tuple[dict, float]:
    """Runs one conversion; gives its report and its peak resident memory in MiB."""
    read, write = os.pipe()
    pid = os.posix_spawn(TOOL, [TOOL, "convert", src, dst, "--json"], dict(os.environ),
                         file_actions=[(os.POSIX_SPAWN_DUP2, write, 1)])
    os.close(write)
    with os.fdopen(read) as pipe:
        report = pipe.read()
    _, status, usage = os.wait4(pid, 0)
    if status != 0:
        sys.exit(f"convert: {report}")
    return json.loads(report), usage.ru_maxrss / (1 if sys.platform != "darwin" else 1024) / 1024


def main() -> None:
    print("| source | tensors | seconds | GB/s, read + written | peak memory MiB |\n|---|---|---|---|---|")
    for size in sys.argv[1:] or ["500MB", "2GB", "8GB"]:
        work = tempfile.mkdtemp(prefix="metalcast-bench-")
        try:
            src, dst = os.path.join(work, "src"), os.path.join(work, "dst")
            subprocess.run([TOOL, "synth", src, "--size", size, "--quiet"], check=True)
            os.sync()
            report, peak = convert(src, dst)
            rate = (report["bytes_read"] + report["bytes_written"]) / report["seconds"] / 1e9
            print(f"| {report['source_bytes'] / 1e9:.2f} GB | {report['source_tensors']} | {report['seconds']:.1f} | {rate:.2f} | {peak:.0f} |", flush=True)
        finally:
            shutil.rmtree(work)


if __name__ == "__main__":
    main()
