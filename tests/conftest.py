"""One thread for each test process, the same examples in each run, and tables of matrices."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable, Sequence
from typing import Any

import hypothesis
import pytest
import torch

# Test processes run in parallel, and small tensors gain nothing from threads.
torch.set_num_threads(1)

# Each run of the tests draws the same examples, whatever files it collects.
hypothesis.settings.register_profile(
    "sp_plugin", deadline=None, max_examples=40, derandomize=True, database=None
)
hypothesis.settings.load_profile("sp_plugin")


def pytest_configure(config: pytest.Config) -> None:
    """Fill yapf's cache before several processes start.

    MMEngine imports yapf, which caches its grammar in the user's home. With an empty cache one
    process may read a file that another one has written in part.
    """
    if not hasattr(config, "workerinput"):
        with contextlib.suppress(ImportError):
            importlib.import_module("yapf")


@pytest.fixture
def table(record_property: Any) -> Callable[..., Callable[[str, str], None]]:
    """One row of a table that is printed after all tests.

    ``cell = table(name, heads, values, columns)`` starts the row; ``cell(column, text)`` fills in
    a cell. ``fills`` are the columns that a test fills in, all by default. Cells that a passed test
    left empty become "works". For a failed test, the first empty cell becomes "FAILS".
    """

    def row(
        name: str,
        heads: Sequence[str],
        values: Sequence[str],
        columns: Sequence[str],
        fills: Sequence[str] | None = None,
    ) -> Any:
        fills = columns if fills is None else fills
        record_property("table", [name, heads, tuple(values), columns, fills])
        return record_property

    return row


def pytest_terminal_summary(terminalreporter: Any) -> None:
    tables: dict[str, dict[tuple[str, ...], dict[str, str]]] = {}
    for report in terminalreporter.getreports("passed") + terminalreporter.getreports("failed"):
        properties = dict(report.user_properties)
        if report.when != "call" or "table" not in properties:
            continue
        name, heads, values, columns, fills = properties["table"]
        head = f"{name}\n\n| {' | '.join([*heads, *columns])} |"
        rule = f"|{'|'.join('---' for _ in [*heads, *columns])}|"
        row = tables.setdefault(f"{head}\n{rule}", {}).setdefault(
            tuple(values), dict.fromkeys(columns, "")
        )
        # Several tests may fill in one cell; a failure must not be overwritten.
        fills = [column for column in fills if row[column] != "FAILS"]
        row.update({column: properties.get(column, "") for column in fills})
        empty = [column for column in fills if not row[column]]
        if report.passed:
            row.update(dict.fromkeys(empty, "works"))
        elif empty:
            row[empty[0]] = "FAILS"
    for head, rows in tables.items():
        lines = [f"| {' | '.join([*values, *row.values()])} |" for values, row in rows.items()]
        terminalreporter.write_line("\n".join(["", head, *sorted(lines), ""]))
