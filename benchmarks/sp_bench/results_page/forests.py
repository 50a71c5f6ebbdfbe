"""Forest plots of the results page: per metric, the paired difference of every method."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from sp_bench.report.forest_plot import (
    R2,
    Line,
    Panel,
    difference_unit,
    forest_figure,
    seed_differences,
)
from sp_bench.results import BASELINE, MetricSpec
from sp_bench.results_page.tables import MEAN, method_name
from sp_bench.stats import mean_over_methods, rows
from sp_bench.sweeps.collect import Evidence


def methods_figure(
    methods: Sequence[Evidence], metrics: Sequence[MetricSpec], baseline: str = BASELINE
) -> Figure:
    """One panel per metric, with one line per method and, from three methods, one for their mean.

    The interval of a mean over two methods is so long that it would squeeze all others.

    Args:
        methods: lines of each panel.
        metrics: panels.
        baseline: name of the arm to subtract from SP, default ``baseline``.
    """
    return forest_figure([_panel(metric, methods, baseline) for metric in metrics], columns=3)


def _panel(metric: MetricSpec, methods: Sequence[Evidence], baseline: str) -> Panel:
    lines = [
        Line(
            method_name(evidence),
            rows(evidence.runs, [metric], baseline)[0],
            seed_differences(evidence.runs, metric.key, baseline),
        )
        for evidence in methods
    ]
    of_methods = [line.row for line in lines]
    has_mean = len(methods) > 2
    if has_mean:
        differences = [row.difference for row in of_methods if row.seeds]
        lines.append(Line(MEAN, mean_over_methods(of_methods), differences))
    return Panel(lines, _unit(metric), _title(metric), summarized=has_mean)


def _title(metric: MetricSpec) -> str:
    short = metric.label.replace(", gain over one view (R2)", "").replace(" (top-1)", "")
    short = short.split(" (chance")[0].replace("sharpness equalised", "equalised")
    short = short.removesuffix(" by the probe")  # too long for a panel
    return short.removesuffix(" (R2)")  # which is below the axis


def _unit(metric: MetricSpec) -> str:
    unit = "points" if metric.percent else R2 if difference_unit(metric) == R2 else ""
    return ", ".join(filter(None, (unit, "" if metric.higher_is_better else "lower is better")))
