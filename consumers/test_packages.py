"""Explains why the other tests do not run if the consumers are not installed."""

import pytest
from conftest import MISSING, REQUIRED


def test_the_consumers_are_installed():
    if MISSING:
        (pytest.fail if REQUIRED else pytest.skip)("not importable: " + "; ".join(MISSING))
