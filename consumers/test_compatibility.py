"""The table in the documentation matches what the tests find."""

from pathlib import Path

import compatibility

DOCUMENT = Path(__file__).parent.parent / "docs" / "compatibility.md"


def test_the_committed_table_is_current(shelf):
    assert DOCUMENT.read_text() == compatibility.text(shelf), "run: python consumers/compatibility.py docs/compatibility.md"
