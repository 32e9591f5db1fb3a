"""Compares a peer's checkpoint with metalcast's, tensor by tensor, byte for byte. usage: same.py
OURS THEIRS

Prints "N of M tensors have the same bytes"; experts may be separate in THEIRS if they are stacked
in OURS. The exit status is 1 unless all have.
"""

import json
import mmap
import re
import struct
import sys
from pathlib import Path


def tensors(directory: Path) -> dict[str, tuple[list[int], memoryview]]:
    found = {}
    for path in sorted(directory.glob("*.safetensors")):
        with path.open("rb") as file:
            data = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        (length,) = struct.unpack("<Q", data[:8])
        for name, entry in json.loads(bytes(data[8 : 8 + length])).items():
            if name != "__metadata__":
                start, end = entry["data_offsets"]
                found[name] = entry["shape"], data[8 + length + start : 8 + length + end]
    return found


def stacked(name: str, shape: list[int], theirs: dict) -> list[tuple[list[int], memoryview]] | None:
    """The parts of a stack of experts, in order, if THEIRS has them separately."""
    if not (m := re.match(r"(.*\.experts)\.(gate_up|down)_proj$", name)):
        return None
    names = [f"{m[1]}.{e}.{p}_proj.weight" for e in range(shape[0]) for p in m[2].split("_")]
    return [theirs[n] for n in names] if all(n in theirs for n in names) else None


def equal(name: str, shape: list[int], data: memoryview, theirs: dict) -> bool:
    if name in theirs:
        return theirs[name][0] == shape and same(data, theirs[name][1])
    if (parts := stacked(name, shape, theirs)) is None:
        return False
    at = 0
    for _, part in parts:
        if not same(data[at : at + len(part)], part):
            return False
        at += len(part)
    return at == len(data)


def same(a: memoryview, b: memoryview, step: int = 1 << 24) -> bool:
    return len(a) == len(b) and all(bytes(a[i : i + step]) == bytes(b[i : i + step]) for i in range(0, len(a), step))


def main() -> int:
    ours, theirs = tensors(Path(sys.argv[1])), tensors(Path(sys.argv[2]))
    differ = [name for name, (shape, data) in ours.items() if not equal(name, shape, data, theirs)]
    print(f"{len(ours) - len(differ)} of {len(ours)} tensors have the same bytes" + (f"; not {differ[0]}" if differ else ""))
    return 1 if differ else 0


if __name__ == "__main__":
    sys.exit(main())
