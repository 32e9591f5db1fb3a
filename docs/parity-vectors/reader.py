"""Reads vectors.json and compares a converter's bits with it. Python 3.9 or later; see README.md.

    python reader.py vectors.json    # prints the cases
    import reader
    def convert(case, want): ...     # {"values": bytes}, or codes, scales, biases; None to skip
    done, left, wrong = reader.check(convert, "vectors.json")
"""

import json
import sys

VERSION = 1
SIZES = {"F8_E4M3": 1, "F8_E8M0": 1, "BF16": 2, "F16": 2, "F32": 4}
PARTS = ("values", "codes", "scales", "biases")


def unpack(rows):
    """The bytes of [[times, hex], ...]: rows, each repeated that many times."""
    return b"".join(bytes.fromhex(line) * times for times, line in rows)


def load(path):
    """The cases, with the bytes of source, scales and results instead of their rows."""
    with open(path, encoding="utf-8") as file:
        document = json.load(file)
    if document["version"] != VERSION:
        raise ValueError(f"{path}: version {document['version']}, this reader knows {VERSION}")
    for case in document["cases"]:
        for matrix in (case["source"], case.get("scales")):
            if matrix:
                matrix["data"] = unpack(matrix["data"])
        for want in case["results"]:
            want.update({part: unpack(want[part]) for part in PARTS if part in want})
    return document["cases"]


def name(case, want):
    kind = f' {want["mode"]} {want["bits"]}/{want["group_size"]} {want["profile"]}' if "mode" in want else ""
    return f'{case["name"]} -> {want["dtype"]}{kind}'


def check(convert, path):
    """The number of results, the number skipped, and a line for each that differs."""
    done, left, wrong = 0, 0, []
    for case in load(path):
        for want in case["results"]:
            got = convert(case, want)
            done, left = done + (got is not None), left + (got is None)
            for part in [p for p in PARTS if p in want] if got is not None else []:
                size = 1 if part == "codes" or part == "scales" and want["mode"] != "affine" else SIZES[want["dtype"]]
                a, b = ([data[i:i + size].hex() for i in range(0, len(data), size)] for data in (want[part], bytes(got[part])))
                at = next((i for i, pair in enumerate(zip(a, b)) if pair[0] != pair[1]), None if len(a) == len(b) else min(len(a), len(b)))
                if at is not None:
                    wrong.append(f"{name(case, want)}: {part}, element {at}: got {b[at:at + 1]}, want {a[at:at + 1]}, little-endian")
    return done, left, wrong


if __name__ == "__main__":
    for each in load(sys.argv[1]):
        print(f'{each["op"]}: {each["name"]}, {each["source"]["dtype"]} {each["source"]["shape"]} ({each["about"]}): {len(each["results"])} results')
