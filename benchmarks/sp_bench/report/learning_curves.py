"""Learning curves: what the losses and SP's R2 did, epoch by epoch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean

from matplotlib.axes import Axes
from matplotlib.figure import Figure as Chart
from matplotlib.ticker import MaxNLocator

from sp_bench.report import mpl_style
from sp_bench.results import ARMS, BASELINE, SP, Run

PANELS = {
    "loss": "The host's own loss",
    "sp_loss": "SP's loss, unweighted",
    "sp_weight": "Weight of SP's loss",
    "sp_r2_dx": "R² of dx",
    "sp_r2_dy": "R² of dy",
    "sp_r2_scale": "R² of scale",
}
_COLOURS = {BASELINE: mpl_style.BASELINE, SP: mpl_style.SP}
Points = dict[float, float]


def points(run: Run, key: str) -> Points:
    """A run's values of one quantity by epoch; those that are no number are left out.

    >>> points(Run("sp", 0, curve=[{"epoch": 1, "loss": 5.0}, {"epoch": 2}]), "loss")
    {1: 5.0}
    """
    values = {entry["epoch"]: entry[key] for entry in run.curve if key in entry}
    return {epoch: value for epoch, value in values.items() if math.isfinite(value)}


def mean_curve(curves: Sequence[Points]) -> Points:
    """The mean over seeds at each epoch that all of them have.

    >>> mean_curve([{1: 4.0, 2: 3.0}, {1: 2.0}])
    {1: 3.0}
    """
    shared = set.intersection(*(set(curve) for curve in curves)) if curves else set()
    return {epoch: fmean(curve[epoch] for curve in curves) for epoch in sorted(shared)}


def curve_charts(runs: Sequence[Run]) -> dict[str, Chart]:
    """One chart for each quantity that a run recorded, by its title."""
    charts = {}
    for key, title in PANELS.items():
        arms = {arm: [points(run, key) for run in runs if run.arm == arm] for arm in ARMS}
        arms = {arm: [curve for curve in curves if curve] for arm, curves in arms.items()}
        if any(arms.values()):
            charts[title] = _chart(key, arms)
    _share_scale([charts[PANELS[key]] for key in PANELS if "r2" in key and PANELS[key] in charts])
    return charts


def _chart(key: str, arms: dict[str, list[Points]]) -> Chart:
    chart, axes = mpl_style.new_chart(3.3, 2.2)
    if "r2" in key:
        axes.axhline(0, color=mpl_style.FAINT, linewidth=0.8)
    for arm, curves in arms.items():
        style = "--" if arm == BASELINE else "-"
        for curve in curves:
            _plot(axes, curve, color=_COLOURS[arm], linestyle=style, linewidth=0.7, alpha=0.45)
        _plot(axes, mean_curve(curves), color=_COLOURS[arm], linestyle=style, linewidth=1.9)
    if key == "sp_weight":
        axes.set_ylim(bottom=0)
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    axes.locator_params(axis="y", nbins=5)
    return chart


def _plot(axes: Axes, curve: Points, **style: object) -> None:
    axes.plot(list(curve), list(curve.values()), **style)  # type: ignore[arg-type]


def _share_scale(charts: Sequence[Chart]) -> None:
    """R2 of dx, dy and scale on one scale, so that they can be compared by eye."""
    limits = [axes.get_ylim() for chart in charts for axes in chart.axes]
    for chart in charts:
        for axes in chart.axes:
            axes.set_ylim(min(low for low, _ in limits), max(high for _, high in limits))
