"""What the runner of the frameworks reads in the output of pytest."""

from __future__ import annotations

from pathlib import Path

import matrix
from framework_table import COLUMNS, HEADS


def test_rows_are_read_from_output() -> None:
    rows = [matrix.table_row("x", "1", case, *("yes" for _ in COLUMNS)) for case in ("a", "b")]
    head = matrix.table_row(*HEADS, *COLUMNS)
    other = ["Trainer features", "", "| feature |", "|---|", "| works |", ""]
    output = "\n".join([*other, "Frameworks", "", head, "|---|", *rows, "", "2 passed"])
    assert matrix.table_rows(output) == rows
    assert matrix.table_rows("1 error") == []


def test_each_framework_has_its_tests() -> None:
    makefile = (matrix.ROOT / "Makefile").read_text()
    for framework in matrix.FRAMEWORKS:
        assert all((matrix.ROOT / name).exists() for name in framework.tests)
        assert f" {framework.name}" in makefile.split(".PHONY:")[1].splitlines()[0]
    assert Path(__file__).parents[2] == matrix.ROOT
