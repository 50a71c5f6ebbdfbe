"""Forest plots: for each task, every host's paired difference with its interval."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure as Chart

from sp_bench.published.cells import host_name
from sp_bench.report.drawing import FAINT, INK
from sp_bench.report.forest import seed_differences, unit
from sp_bench.report.wording import verdict
from sp_bench.results import Figure, Row
from sp_bench.stats import rows
from sp_bench.suites.collect import Evidence

_COLUMNS = 3


def forests(hosts: Sequence[Evidence], figures: Sequence[Figure]) -> Chart:
    """A panel for each figure, a line for each host.

    Args:
        hosts: lines, first on top.
        figures: panels.

    Returns:
        A chart on white, for a page that may be dark.
    """
    down = math.ceil(len(figures) / _COLUMNS)
    height = 0.75 + 0.24 * len(hosts)
    chart = Chart((10, down * height + 0.2), layout="constrained", facecolor="white")
    grid = chart.subplots(down, _COLUMNS, squeeze=False)
    for axes in grid.flat[len(figures) :]:
        axes.set_axis_off()
    for place, (figure, axes) in enumerate(zip(figures, grid.flat, strict=False)):
        _panel(axes, figure, hosts, named=place % _COLUMNS == 0)
    return chart


def save(chart: Chart, path: Path) -> None:
    """Write as PNG; the same bytes for the same chart."""
    path.parent.mkdir(parents=True, exist_ok=True)
    chart.savefig(path, format="png", dpi=130, metadata={"Software": None})


def _panel(axes: Axes, figure: Figure, hosts: Sequence[Evidence], named: bool) -> None:
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(FAINT)
    axes.axvline(0, color=FAINT, linewidth=0.8)
    for place, each in enumerate(hosts):
        (row,) = rows(each.runs, [figure])
        if row.seeds:
            _line(axes, place, row, seed_differences(each.runs, figure.key))
    names = [host_name(each) for each in hosts] if named else [""] * len(hosts)
    axes.set_yticks(range(len(hosts)), names)
    axes.set_ylim(len(hosts) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0, labelsize=8, labelcolor=INK)
    axes.tick_params(axis="x", colors=FAINT, labelcolor=INK, labelsize=8, length=3)
    axes.locator_params(axis="x", nbins=5)
    better = "" if figure.higher_is_better else ", lower is better"
    measure = "points" if figure.percent else "R²" if unit(figure) == "R²" else ""
    axes.set_title(_title(figure), fontsize=8.5, color=INK, loc="left", wrap=True)
    axes.set_xlabel(f"{measure}{better}".strip(", "), fontsize=8, color=FAINT)


def _line(axes: Axes, place: int, row: Row, seeds: Sequence[float]) -> None:
    factor = 100 if row.figure.percent else 1
    points = [factor * value for value in seeds]
    axes.scatter(
        points, [place] * len(points), s=9, facecolors="none", edgecolors=FAINT, linewidths=0.7
    )
    if math.isfinite(row.low) and math.isfinite(row.high):
        axes.plot([factor * row.low, factor * row.high], [place, place], color=INK, linewidth=1.2)
    face = INK if verdict(row) else "white"
    axes.scatter(
        factor * row.difference, place, marker="s", s=26, facecolors=face, edgecolors=INK, zorder=3
    )


def _title(figure: Figure) -> str:
    short = figure.label.replace(", gain over one view (R2)", "").replace(" (top-1)", "")
    return short.split(" (chance")[0].replace("sharpness equalised", "equalised")
