"""The document matches what the tests find."""

from pathlib import Path

import quantized_table
from quantized_reference import workshop  # noqa: F401, a fixture

DOCUMENT = Path(__file__).parent.parent / "docs" / "quantization.md"


def test_it_is_current(workshop):
    text = DOCUMENT.read_text()
    assert text == quantized_table.current(text, workshop), "run: python consumers/quantized_table.py docs/quantization.md"
