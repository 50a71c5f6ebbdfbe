"""Forest plots: for each task, every host's paired difference with its interval."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure as Chart

from sp_bench.report.forest_plot import R2, draw_difference, quiet_places, seed_differences, unit
from sp_bench.report.mpl_style import FAINT, INK, quiet
from sp_bench.results import MetricSpec
from sp_bench.results_page.cells import OVER_HOSTS, host_name
from sp_bench.stats import over_hosts, rows
from sp_bench.sweeps.collect import Evidence

_COLUMNS = 3


def forests(hosts: Sequence[Evidence], figures: Sequence[MetricSpec]) -> Chart:
    """A panel for each figure, a line for each host, and one for the mean of two and more.

    Args:
        hosts: lines, first on top.
        figures: panels.

    Returns:
        A chart on white, for a page that may be dark.
    """
    down = math.ceil(len(figures) / _COLUMNS)
    height = 0.75 + 0.24 * len(_names(hosts))
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


def _panel(axes: Axes, figure: MetricSpec, hosts: Sequence[Evidence], named: bool) -> None:
    quiet(axes, size=8)
    names = _names(hosts)
    quiet_places(axes, len(names))
    found = [rows(each.runs, [figure])[0] for each in hosts]
    points = [seed_differences(each.runs, figure.key) for each in hosts]
    if len(hosts) > 1:
        axes.axhline(len(hosts) - 0.4, color=FAINT, linewidth=0.5)
        points.append([row.difference for row in found if row.seeds])
        found.append(over_hosts(found))
    for place, (row, single) in enumerate(zip(found, points, strict=True)):
        if row.seeds:
            draw_difference(axes, place, row, single)
    axes.set_yticks(range(len(names)), names if named else [""] * len(names))
    axes.locator_params(axis="x", nbins=5)
    better = "" if figure.higher_is_better else ", lower is better"
    measure = "points" if figure.percent else R2 if unit(figure) == R2 else ""
    axes.set_title(_title(figure), fontsize=8.5, color=INK, loc="left", wrap=True)
    axes.set_xlabel(f"{measure}{better}".strip(", "), fontsize=8, color=FAINT)


def _names(hosts: Sequence[Evidence]) -> list[str]:
    return [*map(host_name, hosts), *[OVER_HOSTS] * (len(hosts) > 1)]


def _title(figure: MetricSpec) -> str:
    short = figure.label.replace(", gain over one view (R2)", "").replace(" (top-1)", "")
    short = short.split(" (chance")[0].replace("sharpness equalised", "equalised")
    return short.removesuffix(" (R2)")  # stands below
