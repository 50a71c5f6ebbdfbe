"""The table of frameworks, whose rows the tests of this folder fill in; imports no packages."""

from __future__ import annotations

from typing import Any

MATRIX = "Frameworks"
HEADS = ("framework", "version", "case")
COLUMNS = ("trains", "weight 0 equal", "resume equal", "checkpoint clean")


def same(a: dict[str, Any], b: dict[str, Any]) -> bool:
    """Whether two states are identical, bit for bit."""
    return a.keys() == b.keys() and all(a[name].equal(b[name]) for name in a)
