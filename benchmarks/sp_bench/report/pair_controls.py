"""The controls of the pair task: what its figures are worth once the ways round it are closed."""

from __future__ import annotations

from typing import NamedTuple

from sp_bench.report.number_format import level
from sp_bench.results import PAIR_CONTROLS as CONTROLS
from sp_bench.results import Results, Row

TARGETS = {"dx": "dx, left to right", "dy": "dy, top to bottom", "scale": "scale"}


class Cell(NamedTuple):
    """R2 of the two arms in words, empty where it was not measured."""

    baseline: str
    sp: str


class Controls(NamedTuple):
    """The table: a column for each of dx, dy and scale, a row for each control.

    Attributes:
        columns: Names of the targets that were measured.
        rows: Name of the control, and a cell for each column.
    """

    columns: list[str]
    rows: list[tuple[str, list[Cell]]]


def pair_controls(results: Results) -> Controls | None:
    """Gather the pair task's controls; what was not measured is left out.

    Args:
        results: Of a comparison.

    Returns:
        None where there is nothing to show.
    """
    rows = {row.figure.key: row for row in results.rows}
    targets = [t for t in TARGETS if any(_key(t, c) in rows for c in CONTROLS)]
    controls = [c for c in CONTROLS if any(_key(t, c) in rows for t in TARGETS)]
    if not targets:
        return None
    table = [
        (CONTROLS[control], [_cell(rows.get(_key(target, control))) for target in targets])
        for control in controls
    ]
    return Controls([TARGETS[target] for target in targets], table)


def is_control(row: Row) -> bool:
    """Whether a row stands in the table of controls."""
    return any(row.figure.key == _key(t, c) for t in TARGETS for c in CONTROLS)


def _key(target: str, control: str) -> str:
    return f"pair_{target}_{control}"


def _cell(row: Row | None) -> Cell:
    if row is None:
        return Cell("", "")
    return Cell(level(row.figure, row.baseline), level(row.figure, row.sp))
