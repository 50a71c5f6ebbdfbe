"""The figure of trials: what a setting gains against what it costs, next to more epochs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn.isotonic import IsotonicRegression

from sp_bench.report.mpl_style import BASELINE as BASELINE_COLOR
from sp_bench.report.mpl_style import FAINT, INK, SP, style_axes
from sp_bench.report.number_format import metric_name
from sp_bench.results import BASELINE, LONGER, MetricSpec, Row
from sp_bench.results_page.tables import method_name
from sp_bench.stats import cost_ratio, rows
from sp_bench.sweeps.collect import Evidence

_HEIGHT, _LABEL_HEIGHT = 2.4, 0.15  # inches of a panel at least, and of a trial's name


def cost_figure(methods: Sequence[Evidence], metrics: Sequence[MetricSpec]) -> Figure:
    """One panel per method and metric: difference to the baseline against cost, a point a trial.

    A line from the baseline to ``longer`` shows what compute gives as more epochs.

    Args:
        methods: rows of panels.
        metrics: columns.

    Returns:
        A figure on white, for pages that may be dark.
    """
    most = max(len(evidence.arms) for evidence in methods)
    height = max(_HEIGHT, 1.2 * _LABEL_HEIGHT * most)
    size = (3.2 * len(metrics) + 0.4, (height + 0.2) * len(methods) + 0.3)
    figure = Figure(size, layout="constrained", facecolor="white")
    grid = figure.subplots(len(methods), len(metrics), squeeze=False)
    for evidence, of_method in zip(methods, grid, strict=True):
        for metric, axes in zip(metrics, of_method, strict=True):
            _draw_panel(axes, evidence, metric, height)
        of_method[0].set_ylabel(f"{method_name(evidence)}\npoints above baseline", fontsize=8)
    for axes in grid[-1]:
        axes.set_xlabel("cost of the training, baseline = 1", fontsize=8)
    for metric, axes in zip(metrics, grid[0], strict=True):
        axes.set_title(metric_name(metric).split(" (chance")[0], fontsize=8.5, color=INK, pad=14)
    return figure


def _draw_panel(axes: Axes, evidence: Evidence, metric: MetricSpec, height: float) -> None:
    style_axes(axes, font_size=8)
    axes.axhline(0, color=FAINT, linewidth=0.8)
    points = {}
    for arm in evidence.arms:
        row = rows(evidence.runs, [metric], arm=arm)[0]
        cost = cost_ratio(evidence.runs, BASELINE, arm)
        if arm == BASELINE or not row.seeds or math.isnan(cost):
            continue
        points[arm] = cost, _points(row, row.difference)
        if arm == LONGER:
            line = [1, cost], [0, points[arm][1]]
            axes.plot(*line, color=BASELINE_COLOR, linewidth=1, linestyle="--")
        color = BASELINE_COLOR if arm == LONGER else SP
        axes.scatter(*points[arm], s=16, color=color, zorder=3)
        if math.isfinite(row.low):
            ends = [_points(row, end) for end in (row.low, row.high)]
            axes.plot([cost] * 2, ends, color=color, linewidth=0.8)
    # By the points alone: intervals of two seeds are far longer, and are cut off.
    heights = [0.0, *(height for _, height in points.values())]
    margin = 0.15 * (max(heights) - min(heights)) or 1.0
    low, high = min(heights) - margin, max(heights) + margin
    axes.set(
        ylim=(low, high),
        xlim=(0.97, 1.3 * max([1.0, *(cost for cost, _ in points.values())]) - 0.3),
    )
    _label(axes, points, _LABEL_HEIGHT / height * (high - low))


def _label(axes: Axes, points: Mapping[str, tuple[float, float]], gap: float) -> None:
    """Name each point, to its right; names that would cover each other are moved apart."""
    arms = sorted(points, key=lambda arm: points[arm][1])
    places = spread([points[arm][1] for arm in arms], gap)
    left, right = axes.get_xlim()
    for arm, place in zip(arms, places, strict=True):
        axes.annotate(
            arm,
            points[arm],
            (points[arm][0] + 0.05 * (right - left), place),
            fontsize=6.5,
            color=INK,
            va="center",
            arrowprops={"arrowstyle": "-", "color": FAINT, "linewidth": 0.5},
        )


def spread(values: Sequence[float], gap: float) -> list[float]:
    """Increasing values moved as little as possible to be at least ``gap`` apart.

    >>> spread([0.0, 0.1, 5.0], 1.0)
    [-0.45, 0.55, 5.0]
    """
    # The best increasing fit to the values less their gaps (isotonic regression), and the gaps.
    offsets = gap * np.arange(len(values))
    fitted = IsotonicRegression().fit_transform(offsets, np.asarray(values) - offsets)
    return [round(float(value), 6) for value in fitted + offsets]


def _points(row: Row, value: float) -> float:
    return value * 100 if row.metric.percent else value
