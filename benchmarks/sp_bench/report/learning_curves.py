"""Learning curves: losses, weight and R2 of SP per epoch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean
from typing import Any

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
    # R2 of dx, dy and scale have the same limits, so that they can be compared by eye.
    of_r2 = [figure.axes[0] for title, figure in figures.items() if title.startswith("R²")]
    limits = [limit for axes in of_r2 for limit in axes.get_ylim()]
    for axes in of_r2:
        axes.set_ylim(min(limits), max(limits))
    return figures


def _draw(key: str, arms: dict[str, list[Points]]) -> Figure:
    figure, axes = mpl_style.new_figure(3.3, 2.2)
    if "r2" in key:
        axes.axhline(0, color=mpl_style.FAINT, linewidth=0.8)
    for arm, curves in arms.items():
        style: dict[str, Any] = {"color": _COLOURS[arm], "linestyle": "-" if arm == SP else "--"}
        for curve in curves:
            axes.plot(list(curve), list(curve.values()), linewidth=0.7, alpha=0.45, **style)
        mean = mean_curve(curves)
        axes.plot(list(mean), list(mean.values()), linewidth=1.9, **style)
    if key == "sp_weight":
        axes.set_ylim(bottom=0)
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    axes.locator_params(axis="y", nbins=5)
    return figure
