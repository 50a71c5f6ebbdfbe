"""The controls of the pair task: R2 of the probe when one source of information is removed."""

from __future__ import annotations

from sp_bench.report.number_format import format_value
from sp_bench.report.table import LEFT, Column, Table
from sp_bench.results import PAIR_CONTROLS as CONTROLS
from sp_bench.results import Results, Row

TARGETS = {"dx": "dx, left to right", "dy": "dy, top to bottom", "scale": "scale"}


def pair_controls(results: Results) -> Table | None:
    """R2 of both arms: one group of columns per target, one row per control.

    Targets and controls that were not measured are left out.

    Args:
        results: of a comparison.

    Returns:
        None if nothing was measured.
    """
    rows = {row.metric.key: row for row in results.rows}
    targets = [t for t in TARGETS if any(_key(t, c) in rows for c in CONTROLS)]
    if not targets:
        return None
    columns = [Column("", LEFT)]
    for target in targets:
        group = TARGETS[target]
        columns += [Column("baseline", group=group), Column("SP", group=group)]
    lines = []
    for control, name in CONTROLS.items():
        of_control = [rows.get(_key(target, control)) for target in targets]
        if any(of_control):
            lines.append((name, *(text for row in of_control for text in _values(row))))
    return Table(columns, lines)


def is_control(row: Row) -> bool:
    """Whether a row is part of the table of controls."""
    return any(row.metric.key == _key(t, c) for t in TARGETS for c in CONTROLS)


def _key(target: str, control: str) -> str:
    return f"pair_{target}_{control}"


def _values(row: Row | None) -> tuple[str, str]:
    """R2 of the two arms; empty where it was not measured."""
    if row is None:
        return "", ""
    return format_value(row.metric, row.baseline), format_value(row.metric, row.sp)
