"""Tables of metrics: of a comparison, of one backbone, and of goals."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

from rich.console import Console

from sp_bench.goals import Goal
from sp_bench.report.number_format import (
    format_difference,
    format_interval,
    format_survival,
    format_value,
    metric_name,
    name_with_chance,
    verdict,
)
from sp_bench.report.table import LEFT, Cell, Column, Table
from sp_bench.results import MetricSpec, Results, Row
from sp_bench.stats import survives_correction
from sp_bench.tasks import all_tasks

NOTE = (
    "Shares in percent, their differences (SP minus baseline, paired by seed) in points. "
    "Bold: the interval of the difference excludes 0. Survives BH: so does the difference after "
    "Benjamini and Hochberg's correction for all rows of this table (false discovery rate 5%)."
)
_CONTROLS = ("random", "chance")  # at the end of a key
CORRECTED = "survives BH"
_COLUMNS = (
    Column("task", LEFT),
    *map(Column, ("baseline", "SP", "difference", "95% interval", CORRECTED, "seeds")),
)


def known_metrics() -> dict[str, MetricSpec]:
    """Every metric of every task, by key, and those that only published results have."""
    return {
        metric.key: metric
        for task in all_tasks().values()
        for metric in (*task.metrics, *task.retired)
    }


def headline_rows(rows: Iterable[Row]) -> list[Row]:
    """The rows of headline metrics, in their order."""
    return [row for row in rows if row.metric.headline]


def control_rows(rows: Iterable[Row]) -> list[Row]:
    """The other rows that are shown, in their order: those of older files too by today's specs."""
    known = known_metrics()
    return [
        row
        for row in rows
        if not row.metric.headline and known.get(row.metric.key, row.metric).shown
    ]


def comparison_table(rows: Iterable[Row], *, with_chance: bool = False) -> Table:
    """One line per row: means of both arms, the difference, its interval, and the correction.

    The family of the correction is the rows of this table.

    Args:
        rows: of a comparison.
        with_chance: whether the name of a metric includes the value of guessing; default False.
    """
    name = name_with_chance if with_chance else metric_name
    rows = list(rows)
    survives = survives_correction([row.p_value for row in rows])
    return Table(
        _COLUMNS,
        [
            (
                name(row.metric),
                format_value(row.metric, row.baseline),
                format_value(row.metric, row.sp),
                difference_cell(row),
                format_interval(row),
                format_survival(row, survived),
                str(row.seeds),
            )
            for row, survived in zip(rows, survives, strict=True)
        ],
        note=NOTE,
    )


def difference_cell(row: Row) -> Cell:
    """The difference, in bold with its direction if significant."""
    direction = verdict(row)
    remark = f"({direction})" if direction else ""
    return Cell(format_difference(row.metric, row.difference), bool(direction), remark)


def goals_table(goals: Sequence[Goal]) -> Table:
    """One line per goal: the value furthest from it and whether it is met."""
    columns = [Column(name, LEFT) for name in ("goal", "worst value", "result")]
    return Table(columns, [(goal.text, goal.worst, goal.verdict) for goal in goals])


def print_comparison(results: Results, console: Console) -> None:
    """Print the headline rows of a comparison, and those with the longer baseline if it has one."""
    comparison_table(headline_rows(results.rows)).print_to(console)
    if results.longer:
        title = "SP and the longer baseline (here in the column baseline)"
        table = comparison_table(headline_rows(results.longer))
        dataclasses.replace(table, title=title, note="").print_to(console)


def print_metrics(metrics: Mapping[str, float], console: Console) -> None:
    """Print the shown metrics of one backbone, next to chance and to random weights.

    Headlines come first.

    Args:
        metrics: values by key, of known tasks.
        console: where to print.
    """
    known = known_metrics()

    def control(metric: MetricSpec, name: str) -> float | None:
        return metrics.get(f"{metric.key.removesuffix('_r2')}_{name}")

    def cell(metric: MetricSpec, value: float | None) -> str:
        return "" if value is None else format_value(metric, value)

    shown = [known[key] for key in metrics if known[key].shown]
    values = {metric.key for metric in shown}
    rows = []
    for metric in sorted(shown, key=lambda metric: not metric.headline):
        base, _, name = metric.key.rpartition("_")
        if name in _CONTROLS and values & {base, f"{base}_r2"}:
            continue  # it is in a column of its own
        chance = control(metric, "chance") if metric.chance is None else metric.chance
        cells = (metrics[metric.key], control(metric, "random"), chance)
        rows.append((metric_name(metric), *(cell(metric, value) for value in cells)))
    columns = [Column("metric", LEFT), *map(Column, ("value", "random weights", "chance"))]
    Table(columns, rows).print_to(console)
