"""The table of a comparison: one line for each figure, for the terminal and for a README."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from rich.console import Console
from rich.table import Table
from rich.text import Text

from sp_bench.report.number_format import chance, change, interval, level, task_name, verdict
from sp_bench.results import MetricSpec, Results, Row
from sp_bench.tasks import all_tasks

HEADER = ("task", "baseline", "SP", "difference", "95% interval", "seeds")
NOTE = (
    "Shares in percent, their differences (SP minus baseline, paired by seed) in points. "
    "Bold: the interval of the difference excludes 0."
)


class Line(NamedTuple):
    """A row in words.

    Attributes:
        task: The figure's name.
        chance: What guessing gives, or empty.
        baseline: Mean over seeds.
        sp: Mean over seeds.
        difference: Mean of the paired differences, SP minus baseline.
        interval: Of ``difference``; ``one seed`` where there is none.
        seeds: How many pairs of runs.
        verdict: ``better`` or ``worse`` where the interval excludes 0, else empty.
    """

    task: str
    chance: str
    baseline: str
    sp: str
    difference: str
    interval: str
    seeds: str
    verdict: str


def lines(rows: Iterable[Row]) -> list[Line]:
    """The rows in words, in their order.

    >>> from sp_bench.results import MetricSpec
    >>> row = Row(MetricSpec("knn", "kNN", percent=True), 0.782, 0.785, 0.003, -0.002, 0.008, 3)
    >>> lines([row])[0].interval
    '[-0.2, +0.8]'
    """
    return [
        Line(
            task_name(row.figure),
            chance(row.figure),
            level(row.figure, row.baseline),
            level(row.figure, row.sp),
            change(row.figure, row.difference),
            interval(row),
            str(row.seeds),
            verdict(row),
        )
        for row in rows
    ]


def headline(results: Results) -> list[Row]:
    """The rows that stand in the printed table."""
    return [row for row in results.rows if row.figure.headline]


def print_table(results: Results, console: Console | None = None) -> None:
    """Print the headline rows.

    Args:
        results: Of a comparison.
        console: Where to; the terminal unless given.
    """
    table = Table(*HEADER[:1], caption=NOTE, caption_justify="left", box=None, pad_edge=False)
    for name in (*HEADER[1:4], "", *HEADER[4:]):
        table.add_column(name, justify="right" if name else "left", no_wrap=True)
    for line in lines(headline(results)):
        # Text, not str: a label with square brackets is no markup.
        table.add_row(
            Text(line.task),
            line.baseline,
            line.sp,
            Text(line.difference, "bold" if line.verdict else ""),
            line.verdict,
            Text(line.interval),
            line.seeds,
        )
    (console or Console()).print(table)


def print_figures(figures: Mapping[str, float], console: Console | None = None) -> None:
    """Print one backbone's figures, headlines first, with chance beside them.

    Args:
        figures: by key, of known tasks.
        console: Where to; the terminal unless given.
    """
    known = known_figures()
    table = Table("figure", box=None, pad_edge=False)
    for name in ("value", "chance"):
        table.add_column(name, justify="right", no_wrap=True)
    for key in sorted(figures, key=lambda key: not known[key].headline):
        figure = known[key]
        at = level(figure, figure.chance) if figure.chance is not None else ""
        table.add_row(Text(task_name(figure)), level(figure, figures[key]), at)
    (console or Console()).print(table)


def known_figures() -> dict[str, MetricSpec]:
    """Every figure of every task, by key."""
    return {figure.key: figure for task in all_tasks().values() for figure in task.metrics}


def markdown_table(results: Results) -> str:
    """The headline rows as a Markdown table, for a README.

    Args:
        results: Of a comparison.

    Returns:
        The lines of the table, each ended by a newline.
    """
    out = [markdown_row(HEADER), "|---|--:|--:|--:|--:|--:|\n"]
    for line in lines(headline(results)):
        bold = f"**{line.difference}** ({line.verdict})"
        difference = bold if line.verdict else line.difference
        cells = (line.task, line.baseline, line.sp, difference, line.interval, line.seeds)
        out.append(markdown_row(cells))
    return "".join(out)


def markdown_row(cells: Iterable[str]) -> str:
    """A row of a Markdown table, ended by a newline."""
    escaped = (cell.replace("|", r"\|").replace("\n", " ") for cell in cells)
    return f"| {' | '.join(escaped)} |\n"
