"""From numbers to the words of a table, the same in the terminal, in Markdown and in the page."""

from __future__ import annotations

import math

from sp_bench.results import MetricSpec, Row

NOTHING = "\N{EN DASH}"


def task_name(figure: MetricSpec) -> str:
    """What a figure is called in a table, with its direction where that is the unusual one.

    >>> task_name(MetricSpec("depth_rmse", "depth RMSE", higher_is_better=False))
    'depth RMSE, lower is better'
    """
    return figure.label if figure.higher_is_better else f"{figure.label}, lower is better"


def chance(figure: MetricSpec) -> str:
    """What guessing gives, in words; empty where that is 0 or not known.

    >>> chance(MetricSpec("jigsaw", "2x2 jigsaw", percent=True, chance=1 / 24))
    'chance 4.2'
    """
    return f"chance {level(figure, figure.chance)}" if figure.chance else ""


def level(figure: MetricSpec, value: float) -> str:
    """A figure's value: percent with 1 decimal, anything else with 3, from 10 up with 1.

    >>> level(MetricSpec("knn", "kNN", percent=True), 0.7821)
    '78.2'
    >>> level(MetricSpec("r2", "R2"), -0.1306)
    '-0.131'
    """
    return _number(figure, value, sign="")


def change(figure: MetricSpec, value: float) -> str:
    """A difference between two values of a figure, with its sign; percent in points.

    >>> change(MetricSpec("knn", "kNN", percent=True), 0.003)
    '+0.3'
    """
    return _number(figure, value, sign="+")


def interval(row: Row) -> str:
    """The 95% interval of a row's difference; one seed has none.

    >>> interval(Row(MetricSpec("knn", "kNN", percent=True), 0.5, 0.503, 0.003, -0.002, 0.008, 3))
    '[-0.2, +0.8]'
    """
    if row.seeds == 1:
        return "one seed"
    if not (math.isfinite(row.low) and math.isfinite(row.high)):
        return NOTHING
    return f"[{change(row.figure, row.low)}, {change(row.figure, row.high)}]"


def verdict(row: Row) -> str:
    """``better`` or ``worse`` where the interval excludes 0, else the empty string.

    >>> row = Row(MetricSpec("knn", "kNN", percent=True), 0.5, 0.49, -0.01, -0.02, -0.005, 3)
    >>> verdict(row)
    'worse'
    """
    if row.low > 0:
        return "better" if row.figure.higher_is_better else "worse"
    if row.high < 0:
        return "worse" if row.figure.higher_is_better else "better"
    return ""


def _number(figure: MetricSpec, value: float, sign: str) -> str:
    if not math.isfinite(value):
        return NOTHING
    if figure.percent:
        return f"{100 * value:{sign}.1f}"
    return f"{value:{sign}.{1 if abs(value) >= 10 else 3}f}"
