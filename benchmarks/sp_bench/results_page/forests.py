"""Forest plots of the results page: per metric, the paired difference of every method."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sp_bench.report.forest_plot import (
    R2,
    difference_unit,
    draw_difference,
    prepare_lines,
    seed_differences,
)
from sp_bench.report.mpl_style import FAINT, INK, style_axes
from sp_bench.results import MetricSpec
from sp_bench.results_page.tables import MEAN, method_name
from sp_bench.stats import mean_over_methods, rows
from sp_bench.sweeps.collect import Evidence

_COLUMNS = 3


def forest_figure(methods: Sequence[Evidence], metrics: Sequence[MetricSpec]) -> Figure:
    """One panel per metric, with one line per method and, from two methods, one for their mean.

    Args:
        methods: lines, from the top.
        metrics: panels.

    Returns:
        A figure on white, for pages that may be dark.
    """
    names = [method_name(evidence) for evidence in methods]
    if len(methods) > 1:
        names.append(MEAN)
    grid_rows = math.ceil(len(metrics) / _COLUMNS)
    height = 0.75 + 0.24 * len(names)
    size = (10, grid_rows * height + 0.2)
    figure = Figure(size, layout="constrained", facecolor="white")
    grid = figure.subplots(grid_rows, _COLUMNS, squeeze=False)
    for axes in grid.flat[len(metrics) :]:
        axes.set_axis_off()
    for i, (metric, axes) in enumerate(zip(metrics, grid.flat, strict=False)):
        _draw_panel(axes, metric, methods)
        # Only the first panel of a row has names.
        axes.set_yticks(range(len(names)), names if i % _COLUMNS == 0 else [""] * len(names))
    return figure


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as PNG; the same figure gives the same bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, format="png", dpi=130, metadata={"Software": None})


def _draw_panel(axes: Axes, metric: MetricSpec, methods: Sequence[Evidence]) -> None:
    style_axes(axes, font_size=8)
    lines = [rows(evidence.runs, [metric])[0] for evidence in methods]
    points = [seed_differences(evidence.runs, metric.key) for evidence in methods]
    if len(methods) > 1:
        axes.axhline(len(methods) - 0.4, color=FAINT, linewidth=0.5)
        points.append([row.difference for row in lines if row.seeds])
        lines.append(mean_over_methods(lines))
    prepare_lines(axes, len(lines))
    for y, (row, seeds) in enumerate(zip(lines, points, strict=True)):
        if row.seeds:
            draw_difference(axes, y, row, seeds)
    axes.locator_params(axis="x", nbins=5)
    axes.set_title(_title(metric), fontsize=8.5, color=INK, loc="left", wrap=True)
    axes.set_xlabel(_unit_label(metric), fontsize=8, color=FAINT)


def _title(metric: MetricSpec) -> str:
    short = metric.label.replace(", gain over one view (R2)", "").replace(" (top-1)", "")
    short = short.split(" (chance")[0].replace("sharpness equalised", "equalised")
    return short.removesuffix(" (R2)")  # which is below the axis


def _unit_label(metric: MetricSpec) -> str:
    parts = []
    if metric.percent:
        parts.append("points")
    elif difference_unit(metric) == R2:
        parts.append(R2)
    if not metric.higher_is_better:
        parts.append("lower is better")
    return ", ".join(parts)
