"""One thread for each test process, and the tables that matrices of tests fill."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch

# They run side by side, and small tensors gain nothing.
torch.set_num_threads(1)


def pytest_configure(config: pytest.Config) -> None:
    """Fill yapf's cache before there are several processes.

    MMEngine imports yapf, which writes its grammar into the user's cache folder when there is none
    and reads whatever lies there: of two processes that begin in an empty home, one may find the
    other's half-written file.
    """
    if not hasattr(config, "workerinput"):
        with contextlib.suppress(ImportError):
            importlib.import_module("yapf")


@pytest.fixture
def table(record_property: Any) -> Callable[..., Callable[[str, str], None]]:
    """One row of a table that is printed when all is done.

    ``cell = table(name, heads, values, columns)`` begins the row; ``cell(column, text)`` fills it.
    Of the columns that a test ``fills`` (all, if it does not say), the first that a failed one did
    not come to says FAILS; one that passed fills what it left open with "works".
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
        told = dict(report.user_properties)
        if report.when != "call" or "table" not in told:
            continue
        name, heads, values, columns, fills = told["table"]
        head = f"{name}\n\n| {' | '.join([*heads, *columns])} |"
        rule = f"|{'|'.join('---' for _ in [*heads, *columns])}|"
        row = tables.setdefault(f"{head}\n{rule}", {}).setdefault(
            tuple(values), dict.fromkeys(columns, "")
        )
        # Several tests may fill one cell; one that failed is not to be hidden by another.
        fills = [column for column in fills if row[column] != "FAILS"]
        row.update({column: told.get(column, "") for column in fills})
        left = [column for column in fills if not row[column]]
        if report.passed:
            row.update(dict.fromkeys(left, "works"))
        elif left:
            row[left[0]] = "FAILS"
    for head, rows in tables.items():
        lines = [f"| {' | '.join([*values, *row.values()])} |" for values, row in rows.items()]
        terminalreporter.write_line("\n".join(["", head, *sorted(lines), ""]))
