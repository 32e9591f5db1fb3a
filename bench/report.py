#!/usr/bin/env python3
"""Writes the measurements of bench/results into docs/performance.md and README.md, between their
markers, and docs/performance.svg. usage: report.py"""

import json
from html import escape
from pathlib import Path
from statistics import median
from textwrap import fill

HERE = Path(__file__).resolve().parent
RESULTS, DOCS = HERE / "results", HERE.parent / "docs"
OTHER = RESULTS / "other"  # from a different machine than the rest
BEGIN, END = "<!-- bench/report.py writes from here -->\n", "<!-- to here -->\n"
README, README_BEGIN, README_END = HERE.parent / "README.md", "<!-- converters: written by bench/report.py -->\n", "<!-- end of converters -->\n"
PLAIN = "plain copy loop"
TITLES = {"conversions": "FP8 to bfloat16", "quantizing": "Straight to 4 bits", "loads": "Loading", "sizes": "Growth", "many": "Many tensors", "machine": "Kernels and disk: metalcast bench"}


def save(name: str, result: dict, where: Path = RESULTS) -> None:
    where.mkdir(exist_ok=True)
    (where / f"{name}.json").write_text(json.dumps(result, indent=1) + "\n")


def load(where: Path = RESULTS) -> dict:
    return {name: json.loads(path.read_text()) for name in TITLES if (path := where / f"{name}.json").exists()}


def rows(group: dict) -> dict[str, dict]:
    return {row["name"]: row for row in group["rows"] if row["seconds"]}


def paced(group: dict) -> dict | None:
    """The better of the paced copies."""
    return min((row for name, row in rows(group).items() if name.startswith("paced")), key=lambda row: median(row["seconds"]), default=None)


def ratio(row: dict, base: dict | None, key: str = "seconds") -> float | None:
    """The median of the ratios of the same round."""
    pairs = [a / b for a, b in zip(row[key], base[key]) if b] if base else []
    return median(pairs) if pairs else None


def figure(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}" if value < 10 else f"{value:.1f}"


def wrapped(line: str) -> str:
    """Prose at 100 columns; tables and code as they are."""
    return line if line.startswith(("|", "    ")) else fill(line, 100, break_long_words=False, break_on_hyphens=False)


def table(group: dict) -> list[str]:
    plain, best = rows(group).get(PLAIN), paced(group)
    lines = []
    if plain:
        lines += ["| | seconds, median (least - most) | x plain copy | x paced copy | CPU s | x plain copy's | peak MiB |", "|---|---|---|---|---|---|---|"]
    else:
        lines += ["| | seconds, median (least - most) | CPU s | peak MiB |", "|---|---|---|---|"]
    for row in group["rows"]:
        if not row["seconds"]:
            lines.append(f"| {row['name']} | failed: {row['failed'].replace('|', ' ')} |" + " |" * (5 if plain else 2))
            continue
        seconds = row["seconds"]
        cells = [row["name"], f"{median(seconds):.2f} ({min(seconds):.2f} - {max(seconds):.2f})"]
        if plain:
            cells += [figure(ratio(row, plain)), figure(ratio(row, best))]
        cells.append(f"{median(row['cpu_seconds']):.2f}")
        if plain:
            cells.append(figure(ratio(row, plain, "cpu_seconds")))
        lines.append("| " + " | ".join([*cells, f"{row['peak_mib']:.0f}"]) + " |")
    return lines


def growth(groups: list[dict]) -> list[str]:
    """One line per size."""
    lines = ["| source | tensors | metalcast, s | GB/s, read + written | x plain copy | x paced copy | CPU x plain copy's | peak MiB |", "|---|---|---|---|---|---|---|---|"]
    for group in groups:
        tool = rows(group).get("metalcast")
        if not tool:
            lines.append(f"| {group['title']} | failed: {group['rows'][0].get('failed', '')} | | | | | | |")
            continue
        seconds, plain = median(tool["seconds"]), rows(group).get(PLAIN)
        rate = (group["bytes_read"] + group["bytes_written"]) / seconds / 1e9
        cpu = ratio(tool, plain, "cpu_seconds") if plain else None
        lines.append(f"| {group['title']} | {group['source_tensors']:,} | {seconds:.2f} | {rate:.2f} | {figure(ratio(tool, plain))} | {figure(ratio(tool, paced(group)))} | "
                     f"{figure(cpu)} | {tool['peak_mib']:.0f} |")
    return lines


def measured(bench: dict) -> list[str]:
    """The table that metalcast bench prints."""
    lines = ["| | measured | GB/s, read + written | time, x the reference's | reference |", "|---|---|---|---|---|"]
    for row in bench["rows"]:
        lines.append(f"| {row['name']} | {row['implementation']} | {row['gb_per_second']:.2f} | {figure(row['ratio'])} | {row['reference']} |")
    before, after = bench["c_memcpy_gb_per_second"]
    return [*lines, "", f"memcpy in the table is Go's copy. The C library's, 1 thread, 96 MiB to 96 MiB in huge pages, median of two seconds: {before:.1f} GB/s before all this, {after:.1f} after."]


def same(group: dict) -> list[str]:
    found = [f"{row['name']}: {row['same']}" for row in group["rows"] if row.get("same")]
    return ["", "Results compared with metalcast's: " + "; ".join(found) + "."] if found else []


def started(group: dict) -> list[str]:
    """The time for starting, and a conversion's time relative to metalcast's without it, as with
    large models."""
    tool = rows(group).get("metalcast")
    found = []
    for row in rows(group).values():
        if tool and (start := row.get("start_seconds")):
            without = ratio(row | {"seconds": [x - start for x in row["seconds"]]}, tool)
            found.append(f"{row['name']} {start:.1f} s ({without:.1f} x metalcast's time without it)")
    return ["", "Of which starting the interpreter and importing: " + ", ".join(found) + "."] if found else []


def origin(result: dict) -> list[str]:
    m = result["machine"]
    counts = [row["rounds"] if "rounds" in row else len(row["seconds"]) for group in result["groups"] for row in group["rows"]]
    rounds = f"rounds: {min(counts)} to {max(counts)}" if counts and min(counts) < max(counts) else f"rounds: {max(counts, default=0)}"
    lines = ["", f"{m['date']}, {m['system']}, {m['cores']} cores of {m['processor']}, {m['memory_gib']} GiB; load {m['load']} before; {rounds}; `{result['command']}`."]
    return lines + ["", "Not measured: " + "; ".join(result["skipped"]) + "."] if result["skipped"] else lines


def goals(results: dict) -> list[str]:
    """The goals, beside the results."""
    found = []

    def goal(text: str, value: float | None, limit: float, unit: str = "", most: bool = True) -> None:
        if value is not None:
            met = value <= limit if most else value >= limit
            found.append(f"| {text} | {limit:g}{unit} | {value:.3g}{unit} | {'yes' if met else 'no'} |")

    def group(section: str, n: int = 0) -> dict:
        groups = results.get(section, {}).get("groups", [])
        return groups[n] if n < len(groups) else {"rows": []}

    g = group("conversions")
    if tool := rows(g).get("metalcast"):
        goal("x plain copy loop, at most", ratio(tool, rows(g).get(PLAIN)), 0.75)
        goal("x the better paced copy, at most", ratio(tool, paced(g)), 1.05)
        goal("CPU time x plain copy's, at most", ratio(tool, rows(g).get(PLAIN), "cpu_seconds"), 1.5)
        for peer in ("torch", "mlx", "compressed-tensors", "transformers"):
            if peer in rows(g):
                goal(f"{peer}'s time x metalcast's, at least", ratio(rows(g)[peer], tool), 6, most=False)
    g = group("quantizing")
    if tool := rows(g).get("metalcast -q"):
        goal("straight to 4 bits x the better paced copy of its bytes, at most", ratio(tool, paced(g)), 1.3)
    grown = [(x, rows(x)["metalcast"]) for x in results.get("sizes", {}).get("groups", []) if "metalcast" in rows(x)]
    for x, tool in grown:
        if x["title"] == "8GB":
            goal("8 GB: x plain copy loop, at most", ratio(tool, rows(x).get(PLAIN)), 0.6)
    if grown:
        goal("peak memory at every size, at most", max(tool["peak_mib"] for _, tool in grown), 512, " MiB")
    if len(grown) > 1:
        each = [median(tool["seconds"]) / (x["bytes_read"] + x["bytes_written"]) for x, tool in grown]
        goal(f"time for a byte at {grown[-1][0]['title']} x that at {grown[0][0]['title']}, about", each[-1] / each[0], 1.25)
    for n, name, text, key, limit, unit in [(0, "metalcast", "62,303 tiny tensors, at most", "seconds", 0.6, " s"),
                                            (1, "metalcast --max-memory 128MiB", "101,241 tensors in 128 MiB: peak, at most", "peak_mib", 128, " MiB"),
                                            (2, "metalcast plan", "planning 199,824 tensors, at most", "seconds", 2, " s"),
                                            (2, "metalcast plan", "and its peak, at most", "peak_mib", 300, " MiB"),
                                            (3, "metalcast inspect --scan", "160 GB computed: peak, at most", "peak_mib", 512, " MiB")]:
        if row := rows(group("many", n)).get(name):
            goal(text, median(row[key]) if key == "seconds" else row[key], limit, unit)
    for bench in results.get("machine", {}).get("groups", []):
        rates = {row["implementation"]: row["gb_per_second"] for row in bench["rows"] if row["name"] == "dequant F8_E4M3 128x128 BF16 -> BF16"}
        copies = {row["implementation"]: row["gb_per_second"] for row in bench["rows"] if row["name"] == "memcpy"}
        one = [name for name in rates if name.startswith("cpu, 1 worker, ")]  # the best first
        for name, limit in ((one[0], 0.7), (one[-1], 0.25)):
            kind = name.removeprefix("cpu, 1 worker, ")
            goal(f"{kind}, one worker: x the C library's memcpy, at least", rates[name] / median(bench["c_memcpy_gb_per_second"]), limit, most=False)
            goal(f"{kind}, one worker: x Go's copy, at least", rates[name] / copies[name], limit, most=False)
        for name in rates:
            if name.startswith("cpu, ") and name not in one:
                goal(f"{name}: x one worker, at least", rates[name] / rates[one[0]], 1, most=False)
    return ["| goal | | measured | met |", "|---|---|---|---|", *found]


def text(results: dict, heading: str = "") -> str:
    lines = [f"### {heading}Goals", "", *goals(results)]
    for name, title in TITLES.items():
        if not (result := results.get(name)):
            continue
        lines += ["", f"### {heading}{title}"]
        if name == "machine":
            lines += ["", *measured(result["groups"][0])]
        elif name == "loads":
            lines += ["", *loading(result["groups"][0])]
        elif name == "sizes":
            lines += ["", *growth(result["groups"])]
        else:
            for group in result["groups"]:
                read = f" Reads {group['bytes_read'] / 1e9:.2f} GB, writes {group['bytes_written'] / 1e9:.2f} GB." if "bytes_read" in group else ""
                lines += ["", f"{group['title'][0].upper()}{group['title'][1:]}.{read}", "", *table(group), *same(group), *started(group)]
        lines += origin(result)
    return "\n".join(map(wrapped, lines)) + "\n"


def loading(group: dict) -> list[str]:
    """What mlx-lm makes of the results; nothing is timed."""
    lines = [f"What mlx-lm {group['mlx_lm']} makes of the release itself: {group['release']}.", "", "| result of | mlx-lm, strict | compared with metalcast's |", "|---|---|---|"]
    return lines + [f"| {row['name']} | {row.get('loads') or 'failed: ' + row.get('failed', '')} | {row.get('same', '')} |" for row in group["rows"]]


CONVERTERS = {  # README's rows: what a reader calls them, where they were timed, and as what
    "metalcast": ("`metalcast convert`", "conversions", "metalcast"),
    "compressed-tensors": ("compressed-tensors, `convert_checkpoint`", "conversions", "compressed-tensors"),
    "torch": ("torch, a script of 40 lines", "conversions", "torch"),
    "mlx": ("mlx, a script of 40 lines", "conversions", "mlx"),
    "transformers": ("transformers, load and save", "conversions", "transformers"),
    "metalcast -q": ("`metalcast convert -q`", "quantizing", "metalcast -q"),
    "mlx_lm.convert -q": ("`mlx_lm.convert -q` of the bf16 result", "quantizing", "mlx_lm.convert -q of the bfloat16 checkpoint"),
}


def converters(results: dict) -> str:
    """README's table: a row for each converter."""
    group, timed = results["loads"]["groups"][0], {name: rows(results[name]["groups"][0]) for name in ("conversions", "quantizing")}
    found = {row["name"]: row for row in group["rows"]}
    lines = ["| | mlx-lm loads what it writes | same bits | peak memory | seconds |", "|---|---|---|---|---|"]
    for name, (title, section, timed_as) in CONVERTERS.items():
        row, time = found.get(name, {}), timed[section].get(timed_as)
        loads = {"loads": "yes"}.get(row.get("loads", ""), row.get("loads") or "not tried")
        same = "reference" if name.startswith("metalcast") else ((time or {}).get("same") or row.get("same") or "not compared").split(" have")[0]
        figures = [f"{time['peak_mib']:.0f} MiB", f"{median(time['seconds']):.1f}"] if time else ["not measured"] * 2
        lines.append("| " + " | ".join([title, loads, same, *figures]) + " |")
    m, l = results["conversions"]["machine"], results["loads"]["machine"]
    said = (f"Time and memory: 2 GB of FP8, {m['date']}, {m['cores']} cores of {m['processor']}, {m['memory_gib']} GiB, Linux. "
            f"Loading: 500 MB, {l['date']}, mlx-lm {group['mlx_lm']}; on the release itself it answers `{group['release'].removeprefix('no: ')}`.")
    return "\n".join([*lines, "", wrapped(said), ""])


def bars(group: dict) -> str:
    """Median seconds as bars, the fastest and the slowest round as a line."""
    list_ = [row for row in group["rows"] if row["seconds"]]
    width, left, line = 760, 190, 30
    most = max(max(row["seconds"]) for row in list_)
    scale = (width - left - 90) / most
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {line * len(list_) + 56}" font-family="sans-serif" font-size="13">',
           f'<rect width="{width}" height="{line * len(list_) + 56}" fill="#ffffff"/>', f'<text x="12" y="24" fill="#222222" font-weight="bold">{escape(group["title"])}: seconds</text>']
    for i, row in enumerate(list_):
        y, value = 40 + i * line, median(row["seconds"])
        low, high = left + min(row["seconds"]) * scale, left + max(row["seconds"]) * scale
        colour = "#c2410c" if row["name"].startswith("metalcast") else "#94a3b8" if "copy" in row["name"] else "#475569"
        out += [f'<text x="{left - 8}" y="{y + 15}" text-anchor="end" fill="#222222">{escape(row["name"])}</text>',
                f'<rect x="{left}" y="{y + 2}" width="{value * scale:.1f}" height="18" fill="{colour}"/>',
                f'<path d="M{low:.1f} {y + 11}H{high:.1f}" stroke="#222222"/>',
                f'<text x="{max(high, left + value * scale) + 8:.1f}" y="{y + 15}" fill="#222222">{value:.2f}</text>']
    return "\n".join([*out, "</svg>"]) + "\n"


def write() -> None:
    results = load()
    page = DOCS / "performance.md"
    before, rest = page.read_text().split(BEGIN)
    _, after = rest.split(END)
    other = load(OTHER)
    more = "\n" + text(other, "Another machine: ") if other else ""
    page.write_text(before + BEGIN + "\n" + text(results) + more + "\n" + END + after)
    if "loads" in results:
        before, rest = README.read_text().split(README_BEGIN)
        README.write_text(before + README_BEGIN + converters(results) + README_END + rest.split(README_END)[1])
    if conversions := results.get("conversions"):
        (DOCS / "performance.svg").write_text(bars(conversions["groups"][0]))


if __name__ == "__main__":
    write()
