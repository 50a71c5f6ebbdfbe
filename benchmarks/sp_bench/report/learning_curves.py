"""Learning curves: losses, weight and R2 of SP per epoch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from sp_bench.report import mpl_style
from sp_bench.results import ARMS, BASELINE, SP, Run

PANELS = {
    "loss": "Loss of the method",
    "sp_loss": "SP's loss, unweighted",
    "sp_weight": "Weight of SP's loss",
    "sp_r2_dx": "R² of dx",
    "sp_r2_dy": "R² of dy",
    "sp_r2_scale": "R² of scale",
}
_COLOURS = {BASELINE: mpl_style.BASELINE, SP: mpl_style.SP}
Points = dict[float, float]


def points(run: Run, key: str) -> Points:
    """Finite values of one quantity of a run, by epoch.

    >>> points(Run("sp", 0, curve=[{"epoch": 1, "loss": 5.0}, {"epoch": 2}]), "loss")
    {1: 5.0}
    """
    values = {entry["epoch"]: entry[key] for entry in run.curve if key in entry}
    return {epoch: value for epoch, value in values.items() if math.isfinite(value)}


def mean_curve(curves: Sequence[Points]) -> Points:
    """Mean over seeds, for the epochs that all of them have.

    >>> mean_curve([{1: 4.0, 2: 3.0}, {1: 2.0}])
    {1: 3.0}
    """
    shared = set.intersection(*(set(curve) for curve in curves)) if curves else set()
    return {epoch: fmean(curve[epoch] for curve in curves) for epoch in sorted(shared)}


def curve_charts(runs: Sequence[Run]) -> dict[str, Figure]:
    """One figure per quantity that the runs recorded in two epochs or more, by title."""
    figures = {}
    for key, title in PANELS.items():
        arms = {arm: [points(run, key) for run in runs if run.arm == arm] for arm in ARMS}
        arms = {arm: [curve for curve in curves if len(curve) > 1] for arm, curves in arms.items()}
        if any(arms.values()):
            figures[title] = _draw(key, arms)
    _share_y_axis([figure for title, figure in figures.items() if title.startswith("R²")])
    return figures


def _draw(key: str, arms: dict[str, list[Points]]) -> Figure:
    figure, axes = mpl_style.new_figure(3.3, 2.2)
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
    return figure


def _plot(axes: Axes, curve: Points, **style: object) -> None:
    axes.plot(list(curve), list(curve.values()), **style)  # type: ignore[arg-type]


def _share_y_axis(figures: Sequence[Figure]) -> None:
    """Give R2 of dx, dy and scale the same limits, so that they can be compared by eye."""
    limits = [axes.get_ylim() for figure in figures for axes in figure.axes]
    for figure in figures:
        for axes in figure.axes:
            axes.set_ylim(min(low for low, _ in limits), max(high for _, high in limits))
