"""Forest plots: the paired differences with their intervals and the single seeds behind them."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure as Chart

from sp_bench.report.mpl_style import FAINT, INK, new_chart
from sp_bench.report.number_format import task_name, verdict
from sp_bench.results import BASELINE, SP, MetricSpec, Results, Row, Run

POINTS, R2 = "percentage points", "R²"
_LABEL_WIDTH = 30  # characters of a line


def unit(figure: MetricSpec) -> str:
    """What a figure's difference is measured in; figures of one unit share a plot.

    >>> unit(MetricSpec("knn", "kNN", percent=True))
    'percentage points'
    >>> unit(MetricSpec("pair_dx_gain", "pair dx (R2)"))
    'R²'
    """
    if figure.percent:
        return POINTS
    return R2 if "R2" in figure.label else figure.label


def seed_differences(runs: Sequence[Run], key: str) -> list[float]:
    """SP minus baseline for each seed that has both, by seed.

    >>> runs = [Run("baseline", 0, {"knn": 0.5}), Run("sp", 0, {"knn": 0.75}), Run("sp", 1)]
    >>> seed_differences(runs, "knn")
    [0.25]
    """
    arms: dict[str, dict[int, float]] = {BASELINE: {}, SP: {}}
    for run in runs:
        if key in run.figures and run.arm in arms:
            arms[run.arm][run.seed] = run.figures[key]
    paired = sorted(arms[BASELINE].keys() & arms[SP].keys())
    return [arms[SP][seed] - arms[BASELINE][seed] for seed in paired]


def forest_charts(results: Results, rows: Sequence[Row]) -> dict[str, Chart]:
    """One forest plot for each unit.

    Args:
        results: For the single seeds.
        rows: What to show; rows without a difference are left out.

    Returns:
        Charts by unit, in the order in which the units occur.
    """
    groups: dict[str, list[Row]] = {}
    for row in rows:
        if math.isfinite(row.difference):
            groups.setdefault(unit(row.figure), []).append(row)
    return {name: _forest(results.runs, group, name) for name, group in groups.items()}


def _forest(runs: Sequence[Run], rows: Sequence[Row], name: str) -> Chart:
    chart, axes = new_chart(5.2, 0.75 + 0.42 * len(rows))
    quiet_places(axes, len(rows))
    for place, row in enumerate(rows):
        draw_difference(axes, place, row, seed_differences(runs, row.figure.key))
    axes.set_yticks(range(len(rows)), [_label(row.figure) for row in rows])
    low, high = axes.get_xlim()
    axes.set_xlim(min(low, -0.1 * high), max(high, -0.1 * low))
    axes.locator_params(axis="x", nbins=6)
    axes.set_xlabel(f"SP \N{MINUS SIGN} baseline, {name}")
    return chart


def quiet_places(axes: Axes, count: int) -> None:
    """Lines 0 to ``count`` - 1 from the top, about a line at no difference."""
    axes.axvline(0, color=FAINT, linewidth=0.8)
    axes.set_ylim(count - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)


def draw_difference(axes: Axes, place: int, row: Row, seeds: Sequence[float]) -> None:
    """A row's difference with its interval, and the single seeds beneath it.

    Args:
        axes: where.
        place: the line, from the top.
        row: of the table.
        seeds: their differences.
    """
    factor = 100 if row.figure.percent else 1
    axes.scatter(
        [factor * value for value in seeds],
        [place + 0.24] * len(seeds),
        s=11,
        facecolors="none",
        edgecolors=FAINT,
        linewidths=0.8,
    )
    if math.isfinite(row.low) and math.isfinite(row.high):
        axes.plot([factor * row.low, factor * row.high], [place, place], color=INK, linewidth=1.3)
    # A full mark where the interval excludes 0, as bold type does in the table.
    face = INK if verdict(row) else "none"
    axes.scatter(
        factor * row.difference, place, marker="s", s=34, facecolors=face, edgecolors=INK, zorder=3
    )


def _label(figure: MetricSpec) -> str:
    # The axis says the unit.
    name = task_name(figure).replace(" (R2)", "")
    return "\n".join(textwrap.wrap(name, _LABEL_WIDTH))
