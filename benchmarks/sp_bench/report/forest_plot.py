"""Forest plots: paired differences with their intervals and single seeds."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sp_bench.report.mpl_style import FAINT, INK, new_figure
from sp_bench.report.number_format import metric_name, verdict
from sp_bench.results import BASELINE, SP, MetricSpec, Results, Row, Run

POINTS, R2 = "percentage points", "R²"
_LABEL_WIDTH = 30  # characters per line


def difference_unit(metric: MetricSpec) -> str:
    """Unit of a metric's differences; metrics of one unit share a plot.

    >>> difference_unit(MetricSpec("knn", "kNN", percent=True))
    'percentage points'
    >>> difference_unit(MetricSpec("pair_dx_gain", "pair dx (R2)"))
    'R²'
    """
    if metric.percent:
        return POINTS
    return R2 if "R2" in metric.label else metric.label


def seed_differences(runs: Sequence[Run], key: str) -> list[float]:
    """SP minus baseline for each seed that has both, sorted by seed.

    >>> runs = [Run("baseline", 0, {"knn": 0.5}), Run("sp", 0, {"knn": 0.75}), Run("sp", 1)]
    >>> seed_differences(runs, "knn")
    [0.25]
    """
    arms: dict[str, dict[int, float]] = {BASELINE: {}, SP: {}}
    for run in runs:
        if key in run.metrics and run.arm in arms:
            arms[run.arm][run.seed] = run.metrics[key]
    paired = sorted(arms[BASELINE].keys() & arms[SP].keys())
    return [arms[SP][seed] - arms[BASELINE][seed] for seed in paired]


def forest_charts(results: Results, rows: Sequence[Row]) -> dict[str, Figure]:
    """One forest plot per unit.

    Args:
        results: the comparison, for its single seeds.
        rows: rows to show; those without a difference are left out.

    Returns:
        Figures by unit, in the order in which the units occur.
    """
    groups: dict[str, list[Row]] = {}
    for row in rows:
        if math.isfinite(row.difference):
            groups.setdefault(difference_unit(row.metric), []).append(row)
    return {unit: _forest(results.runs, group, unit) for unit, group in groups.items()}


def _forest(runs: Sequence[Run], rows: Sequence[Row], unit: str) -> Figure:
    figure, axes = new_figure(5.2, 0.75 + 0.42 * len(rows))
    prepare_lines(axes, len(rows))
    for y, row in enumerate(rows):
        draw_difference(axes, y, row, seed_differences(runs, row.metric.key))
    axes.set_yticks(range(len(rows)), [_label(row.metric) for row in rows])
    low, high = axes.get_xlim()
    axes.set_xlim(min(low, -0.1 * high), max(high, -0.1 * low))
    axes.locator_params(axis="x", nbins=6)
    axes.set_xlabel(f"SP \N{MINUS SIGN} baseline, {unit}")
    return figure


def prepare_lines(axes: Axes, count: int) -> None:
    """Make space for ``count`` lines, from 0 at the top, and mark a difference of 0."""
    axes.axvline(0, color=FAINT, linewidth=0.8)
    axes.set_ylim(count - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)


def draw_difference(axes: Axes, y: int, row: Row, seeds: Sequence[float]) -> None:
    """Draw a row's difference with its interval, and the single seeds below it.

    Args:
        axes: axes with lines as made by `prepare_lines`.
        y: number of the line, from the top.
        row: mean difference and interval.
        seeds: differences of the single seeds.
    """
    factor = 100 if row.metric.percent else 1
    axes.scatter(
        [factor * value for value in seeds],
        [y + 0.24] * len(seeds),
        s=11,
        facecolors="none",
        edgecolors=FAINT,
        linewidths=0.8,
    )
    if math.isfinite(row.low) and math.isfinite(row.high):
        axes.plot([factor * row.low, factor * row.high], [y, y], color=INK, linewidth=1.3)
    # A filled mark if significant, as bold type in the table.
    face = INK if verdict(row) else "none"
    axes.scatter(
        factor * row.difference, y, marker="s", s=34, facecolors=face, edgecolors=INK, zorder=3
    )


def _label(metric: MetricSpec) -> str:
    # The axis shows the unit.
    name = metric_name(metric).replace(" (R2)", "")
    return "\n".join(textwrap.wrap(name, _LABEL_WIDTH))
