"""Forest plots: paired differences with their intervals and single seeds."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sp_bench.report.mpl_style import FAINT, INK, style_axes
from sp_bench.report.number_format import metric_name, verdict
from sp_bench.results import BASELINE, SP, MetricSpec, Results, Row, Run

POINTS, R2 = "percentage points", "R²"
_LABEL_WIDTH = 30  # characters per line


class Line(NamedTuple):
    """A line of a forest plot: its name, the difference, and those of the single seeds."""

    name: str
    row: Row
    seeds: Sequence[float]


class Panel(NamedTuple):
    """Axes of a forest plot.

    Attributes:
        lines: from the top; one without a seed is left empty.
        unit: label of the axis.
        title: heading; empty (default) for none.
        summarized: whether the last line is the mean of the others; default False.
    """

    lines: Sequence[Line]
    unit: str
    title: str = ""
    summarized: bool = False


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


def seed_differences(runs: Sequence[Run], key: str, baseline: str = BASELINE) -> list[float]:
    """SP minus baseline, or another arm, for each seed that has both, sorted by seed.

    >>> runs = [Run("baseline", 0, {"knn": 0.5}), Run("sp", 0, {"knn": 0.75}), Run("sp", 1)]
    >>> seed_differences(runs, "knn")
    [0.25]
    """
    arms: dict[str, dict[int, float]] = {baseline: {}, SP: {}}
    for run in runs:
        if key in run.metrics and run.arm in arms:
            arms[run.arm][run.seed] = run.metrics[key]
    paired = sorted(arms[baseline].keys() & arms[SP].keys())
    return [arms[SP][seed] - arms[baseline][seed] for seed in paired]


def forest_charts(results: Results, rows: Sequence[Row]) -> dict[str, Figure]:
    """One forest plot per unit.

    Args:
        results: the comparison, for its single seeds.
        rows: rows to show; those without a difference are left out.

    Returns:
        Figures by unit, in the order in which the units occur.
    """
    groups: dict[str, list[Line]] = {}
    for row in rows:
        if math.isfinite(row.difference):
            # The axis shows the unit.
            name = textwrap.fill(metric_name(row.metric).replace(" (R2)", ""), _LABEL_WIDTH)
            line = Line(name, row, seed_differences(results.runs, row.metric.key))
            groups.setdefault(difference_unit(row.metric), []).append(line)
    return {
        unit: forest_figure([Panel(lines, f"SP \N{MINUS SIGN} baseline, {unit}")])
        for unit, lines in groups.items()
    }


def forest_figure(panels: Sequence[Panel], columns: int = 1) -> Figure:
    """Draw panels in a grid: square for the mean, filled if significant, circles for the seeds.

    Args:
        panels: from left to right and from the top; those of one row have lines of the same names.
        columns: number of columns; default 1.
    """
    grid_rows = math.ceil(len(panels) / columns)
    line_height = 0.42 if columns == 1 else 0.24  # inches; names are of two lines or of one
    heights = [
        0.75 + line_height * max(len(panel.lines) for panel in panels[i : i + columns])
        for i in range(0, len(panels), columns)
    ]
    size = (5.2 if columns == 1 else 10, sum(heights) + 0.1)
    figure = Figure(size, layout="constrained", facecolor="white")
    grid = figure.subplots(grid_rows, columns, squeeze=False, height_ratios=heights)
    for axes in grid.flat[len(panels) :]:
        axes.set_axis_off()
    for i, (panel, axes) in enumerate(zip(panels, grid.flat, strict=False)):
        _draw_panel(axes, panel)
        # Only the first panel of a row has names.
        names = [line.name if i % columns == 0 else "" for line in panel.lines]
        axes.set_yticks(range(len(names)), names)
    return figure


def _draw_panel(axes: Axes, panel: Panel) -> None:
    style_axes(axes, font_size=8)
    axes.axvline(0, color=FAINT, linewidth=0.8)
    axes.set_ylim(len(panel.lines) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    if panel.summarized:
        axes.axhline(len(panel.lines) - 1.4, color=FAINT, linewidth=0.5)
    for y, line in enumerate(panel.lines):
        if line.row.seeds:
            _draw_line(axes, y, line.row, line.seeds)
    low, high = axes.get_xlim()
    axes.set_xlim(min(low, -0.1 * high), max(high, -0.1 * low))
    axes.locator_params(axis="x", nbins=5)
    axes.set_title(panel.title, fontsize=8.5, color=INK, loc="left", wrap=True)
    axes.set_xlabel(panel.unit, fontsize=8, color=FAINT)


def _draw_line(axes: Axes, y: int, row: Row, seeds: Sequence[float]) -> None:
    factor = 100 if row.metric.percent else 1
    style: dict[str, Any] = {"facecolors": "none", "edgecolors": FAINT, "linewidths": 0.8}
    axes.scatter([factor * value for value in seeds], [y + 0.24] * len(seeds), s=11, **style)
    if math.isfinite(row.low) and math.isfinite(row.high):
        axes.plot([factor * row.low, factor * row.high], [y, y], color=INK, linewidth=1.3)
    # A filled mark if significant, as bold type in the table.
    style = {"facecolors": INK if verdict(row) else "none", "edgecolors": INK, "zorder": 3}
    axes.scatter(factor * row.difference, y, marker="s", s=34, **style)
