"""The figure of trials: what a setting gains against what it costs, next to more epochs."""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sp_bench.report.mpl_style import BASELINE as BASELINE_COLOR
from sp_bench.report.mpl_style import FAINT, INK, SP, style_axes
from sp_bench.report.number_format import metric_name
from sp_bench.results import BASELINE, LONGER, MetricSpec, Row
from sp_bench.results_page.tables import cost_ratio, method_name
from sp_bench.stats import rows
from sp_bench.sweeps.collect import Evidence


def cost_figure(methods: Sequence[Evidence], metrics: Sequence[MetricSpec]) -> Figure:
    """One panel per method and metric: difference to the baseline against cost, a point a trial.

    A line from the baseline through ``longer`` shows what the same compute gives as more epochs.

    Args:
        methods: rows of panels.
        metrics: columns.

    Returns:
        A figure on white, for pages that may be dark.
    """
    size = (2.9 * len(metrics) + 0.4, 2.6 * len(methods) + 0.3)
    figure = Figure(size, layout="constrained", facecolor="white")
    grid = figure.subplots(len(methods), len(metrics), squeeze=False)
    for evidence, of_method in zip(methods, grid, strict=True):
        for metric, axes in zip(metrics, of_method, strict=True):
            _draw_panel(axes, evidence, metric)
        of_method[0].set_ylabel(f"{method_name(evidence)}\npoints above baseline", fontsize=8)
    for axes in grid[-1]:
        axes.set_xlabel("cost of a step, baseline = 1", fontsize=8)
    for metric, axes in zip(metrics, grid[0], strict=True):
        axes.set_title(metric_name(metric).split(" (chance")[0], fontsize=8.5, color=INK)
    return figure


def _draw_panel(axes: Axes, evidence: Evidence, metric: MetricSpec) -> None:
    style_axes(axes, font_size=8)
    axes.axhline(0, color=FAINT, linewidth=0.8)
    for arm in evidence.arms:
        row = rows(evidence.runs, [metric], arm=arm)[0]
        cost = cost_ratio(evidence.runs, BASELINE, arm)
        if arm == BASELINE or not row.seeds or math.isnan(cost):
            continue
        if arm == LONGER:
            slope = _points(row, row.difference) / (cost - 1) if cost > 1 else 0.0
            axes.axline((1, 0), slope=slope, color=BASELINE_COLOR, linewidth=1, linestyle="--")
        _draw_trial(axes, cost, arm, row)
    axes.margins(0.2)
    axes.set_xlim(left=0.97)


def _draw_trial(axes: Axes, cost: float, arm: str, row: Row) -> None:
    color = BASELINE_COLOR if arm == LONGER else SP
    height = _points(row, row.difference)
    if math.isfinite(row.low):
        axes.plot([cost] * 2, [_points(row, end) for end in (row.low, row.high)], color=color)
    axes.scatter(cost, height, s=16, color=color, zorder=3)
    axes.annotate(arm, (cost, height), (3, 3), textcoords="offset points", fontsize=6.5, color=INK)


def _points(row: Row, value: float) -> float:
    return value * 100 if row.metric.percent else value
