"""README and docs: links lead somewhere, and README's table of converters matches bench's
measurements."""

import os
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("consumers/*.md"), *ROOT.glob("emulator/*.md")])
sys.path.insert(0, str(ROOT / "bench"))
import report  # noqa: E402


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as code hosts make them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    for link in re.findall(r"\]\((?!https?:)([^)\s]+)\)", page.read_text()):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{page.name}: {link}"
        assert not anchor or anchor in anchors(target), f"{page.name}: {link}: no such heading"


def test_the_readme_is_a_page():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 120


def test_the_index_has_every_page():
    index = (ROOT / "docs" / "README.md").read_text()
    pages = {os.path.relpath(page, ROOT / "docs") for page in PAGES} - {"README.md"}
    assert {page for page in pages if f"]({page})" not in index} <= {f"macs/{page.name}" for page in ROOT.glob("docs/macs/*.md") if page.name != "README.md"}


def test_the_table_of_converters_is_what_bench_measured():
    assert report.README_BEGIN + report.converters(report.load()) + report.README_END in (ROOT / "README.md").read_text(), "python3 bench/report.py writes it"
