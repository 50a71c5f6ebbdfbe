"""Numbers as text, the same in the terminal, in Markdown and in HTML."""

from __future__ import annotations

import math
from collections.abc import Callable

from sp_bench.results import MetricSpec, Row

MISSING = "\N{EN DASH}"


def metric_name(metric: MetricSpec) -> str:
    """Name of a metric in a table, with its direction if lower is better.

    >>> metric_name(MetricSpec("depth_rmse", "depth RMSE", higher_is_better=False))
    'depth RMSE, lower is better'
    """
    return metric.label if metric.higher_is_better else f"{metric.label}, lower is better"


def name_with_chance(metric: MetricSpec) -> str:
    """Name of a metric, with the value of guessing unless that is 0 or unknown.

    >>> name_with_chance(MetricSpec("jigsaw", "2x2 jigsaw", percent=True, chance=1 / 24))
    '2x2 jigsaw (chance 4.2)'
    """
    chance = f" (chance {format_value(metric, metric.chance)})" if metric.chance else ""
    return metric_name(metric) + chance


def format_value(metric: MetricSpec, value: float) -> str:
    """Value of a metric: percent with 1 decimal, others with 3, from 10 up with 1.

    >>> format_value(MetricSpec("knn", "kNN", percent=True), 0.7821)
    '78.2'
    >>> format_value(MetricSpec("r2", "R2"), -0.1306)
    '-0.131'
    """
    return _number(metric, value, sign="")


def format_difference(metric: MetricSpec, value: float) -> str:
    """Difference of two values of a metric, with its sign; shares in percentage points.

    >>> format_difference(MetricSpec("knn", "kNN", percent=True), 0.003)
    '+0.3'
    """
    return _number(metric, value, sign="+")


def format_interval(row: Row) -> str:
    """95% interval of a row's difference; one seed has none.

    >>> knn = MetricSpec("knn", "kNN", percent=True)
    >>> format_interval(Row(knn, 0.5, 0.503, 0.003, -0.002, 0.008, 3))
    '[-0.2, +0.8]'
    """
    if row.seeds == 1:
        return "one seed"
    if not (math.isfinite(row.low) and math.isfinite(row.high)):
        return MISSING
    return bounds(row.low, row.high, lambda value: format_difference(row.metric, value))


def format_survival(row: Row, survives: bool) -> str:
    """Whether a row's difference survives a correction; a dash without a test.

    >>> format_survival(Row(MetricSpec("knn", "kNN"), 0, 1, 1, 0.5, 1.5, 3, p_value=0.01), True)
    'yes'
    """
    if math.isnan(row.p_value):
        return MISSING
    return "yes" if survives else "no"


def bounds(low: float, high: float, form: Callable[[float], str]) -> str:
    """Two bounds in square brackets.

    >>> bounds(1, 2, "{:.1f}".format)
    '[1.0, 2.0]'
    """
    return f"[{form(low)}, {form(high)}]"


def verdict(row: Row) -> str:
    """``better`` or ``worse`` if the interval excludes 0, else the empty string.

    >>> row = Row(MetricSpec("knn", "kNN", percent=True), 0.5, 0.49, -0.01, -0.02, -0.005, 3)
    >>> verdict(row)
    'worse'
    """
    if row.low > 0:
        return "better" if row.metric.higher_is_better else "worse"
    if row.high < 0:
        return "worse" if row.metric.higher_is_better else "better"
    return ""


def _number(metric: MetricSpec, value: float, sign: str) -> str:
    if not math.isfinite(value):
        return MISSING
    if metric.percent:
        return f"{100 * value:{sign}.1f}"
    return f"{value:{sign}.{1 if abs(value) >= 10 else 3}f}"
