"""Paired statistics: the difference between two arms over seeds, with its 95% interval."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from sp_bench.results import BASELINE, SP, MetricSpec, Row, Run


class Paired(NamedTuple):
    """Mean of n paired differences, SP less baseline, with its interval."""

    difference: float
    low: float
    high: float
    n: int


def paired(baseline: Sequence[float], sp: Sequence[float], confidence: float = 0.95) -> Paired:
    """Student's t interval of the mean paired difference.

    Pairing removes the effect of a seed that both arms share; the interval assumes that the
    differences are about normal. It is wide with few seeds: 2.5 standard deviations in each
    direction with 3 seeds, 1.2 with 5.

    Args:
        baseline: one value per seed.
        sp: values of the other arm, in the same order.
        confidence: in (0, 1), default 0.95.

    Returns:
        The bounds are NaN for one pair, which has no spread; everything is NaN if a value is NaN
        or there is no pair.

    Raises:
        ValueError: the arms differ in length, or the confidence is out of range.

    >>> difference, low, high, n = paired([50, 52, 51], [51, 54, 54])
    >>> difference, round(low, 2), round(high, 2), n
    (2.0, -0.48, 4.48, 3)
    """
    if len(baseline) != len(sp):
        raise ValueError(f"paired: got {len(baseline)} values of baseline, {len(sp)} of SP")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence: got {confidence!r}, takes a number between 0 and 1")
    differences = np.asarray(sp, float) - np.asarray(baseline, float)
    n = len(differences)
    if n == 0:
        return Paired(math.nan, math.nan, math.nan, 0)
    mean = float(differences.mean())
    if n == 1:
        return Paired(mean, math.nan, math.nan, 1)
    half = float(stats.t.ppf((1 + confidence) / 2, n - 1) * stats.sem(differences))
    return Paired(mean, mean - half, mean + half, n)


def rows(
    runs: Sequence[Run], metrics: Sequence[MetricSpec], baseline: str = BASELINE, arm: str = SP
) -> list[Row]:
    """Compare two arms: one row per metric, over the seeds for which both arms have it.

    Args:
        runs: finished runs, in any order; the last one counts if an arm has several of a seed.
        metrics: metrics of the rows, in their order.
        baseline: name of the reference arm, default ``baseline``.
        arm: name of the compared arm, default ``sp``; its mean is `Row.sp` in any case.

    Returns:
        Rows whose means and difference are over the same seeds; NaN if no seed is shared.

    >>> runs = [Run("baseline", 0, {"knn": 0.5}), Run("sp", 0, {"knn": 0.75}), Run("sp", 1)]
    >>> row = rows(runs, [MetricSpec("knn", "kNN")])[0]
    >>> row.baseline, row.sp, row.difference, row.seeds
    (0.5, 0.75, 0.25, 1)
    """
    result = []
    for metric in metrics:
        before, after = (_by_seed(runs, name, metric.key) for name in (baseline, arm))
        seeds = sorted(before.keys() & after.keys())
        result.append(_row(metric, [before[s] for s in seeds], [after[s] for s in seeds]))
    return result


def mean_over_methods(of_methods: Sequence[Row]) -> Row:
    """Mean difference over methods, with an interval for a further method.

    Each method counts once, by its means over seeds, whatever their number. The t interval is of
    the methods' differences: it describes methods like these, not more seeds of them.

    Args:
        of_methods: one row per method, all of one metric; those without a seed are left out.

    Returns:
        A row whose ``seeds`` is the number of methods.

    >>> knn = MetricSpec("knn", "kNN")
    >>> row = mean_over_methods([Row(knn, 1, 2, 1, 0, 2, 3), Row(knn, 1, 4, 3, 3, 3, 2)])
    >>> row.difference, round(row.low, 1), round(row.high, 1), row.seeds
    (2.0, -10.7, 14.7, 2)
    """
    measured = [row for row in of_methods if row.seeds]
    baseline, sp = [row.baseline for row in measured], [row.sp for row in measured]
    return _row(of_methods[0].metric, baseline, sp)


def _row(metric: MetricSpec, baseline: Sequence[float], sp: Sequence[float]) -> Row:
    baseline_mean, sp_mean = (
        float(np.mean(values)) if values else math.nan for values in (baseline, sp)
    )
    return Row(metric, baseline_mean, sp_mean, *paired(baseline, sp))


def _by_seed(runs: Sequence[Run], arm: str, key: str) -> dict[int, float]:
    return {run.seed: run.metrics[key] for run in runs if run.arm == arm and key in run.metrics}
