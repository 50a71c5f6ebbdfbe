"""Paired statistics: the difference between two arms over seeds, with its 95% interval."""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable, Sequence
from statistics import fmean
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from sp_bench.results import BASELINE, SP, MetricSpec, Row, Run

FEW_SEEDS = 5  # with fewer, `bootstrap_over_images` says what the test images alone decide
_FALSE_DISCOVERIES = 0.05
_RESAMPLES = 10_000
_ROUNDING = 1e-9  # of differences, relative to the largest value


class Paired(NamedTuple):
    """Mean of n paired differences, SP less baseline, with its interval.

    Attributes:
        low, high: bounds of the interval; NaN like ``p_value``.
        p_value: of the two-sided paired t test that there is no difference; NaN for one pair, and
            where all differences are equal, such as those of a random backbone's metrics: a t
            test takes their spread.
    """

    difference: float
    low: float
    high: float
    n: int
    p_value: float = math.nan


def paired(baseline: Sequence[float], sp: Sequence[float], confidence: float = 0.95) -> Paired:
    """Paired t test of `scipy.stats.ttest_rel`, with the interval of the mean difference.

    Pairing removes the effect of a seed that both arms share; the interval assumes that the
    differences are about normal. It is wide with few seeds: 2.5 standard deviations in each
    direction with 3 seeds, 1.2 with 5.

    Args:
        baseline: one value per seed.
        sp: values of the other arm, in the same order.
        confidence: in (0, 1), default 0.95.

    Returns:
        Bounds and p value are NaN for one pair and for equal differences, up to rounding, as
        neither has a spread; everything is NaN if a value is NaN or there is no pair.

    Raises:
        ValueError: the arms differ in length, or the confidence is out of range.

    >>> difference, low, high, n, p_value = paired([50, 52, 51], [51, 54, 54])
    >>> difference, round(low, 2), round(high, 2), n, round(p_value, 3)
    (2.0, -0.48, 4.48, 3, 0.074)
    """
    if len(baseline) != len(sp):
        raise ValueError(f"paired: got {len(baseline)} values of baseline, {len(sp)} of SP")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence: got {confidence!r}, takes a number between 0 and 1")
    differences = np.asarray(sp, float) - np.asarray(baseline, float)
    n = len(differences)
    mean = float(differences.mean()) if n else math.nan
    if n < 2 or np.ptp(differences) <= _ROUNDING * np.abs([baseline, sp]).max():
        return Paired(mean, math.nan, math.nan, n)
    test = stats.ttest_rel(np.asarray(sp, float), np.asarray(baseline, float))
    low, high = test.confidence_interval(confidence)
    return Paired(mean, float(low), float(high), n, float(test.pvalue))


def survives_correction(p_values: ArrayLike) -> list[bool]:
    """Which tests of a table survive the correction for their number.

    Benjamini and Hochberg (1995) by `scipy.stats.false_discovery_control`: of the tests that
    survive, at most 5% are expected to be false. It holds for independent tests and for tests that
    depend positively on each other, such as those of similar metrics.

    Args:
        p_values: one per test of the family, all cells of a table; NaN for one that was not made,
            which does not count.

    >>> survives_correction([0.01, 0.04, float("nan"), 0.9])
    [True, False, False, False]
    """
    values = np.asarray(p_values, float)
    survives = np.zeros(len(values), bool)
    tested = np.isfinite(values)
    if tested.any():
        adjusted = stats.false_discovery_control(values[tested])
        survives[tested] = adjusted <= _FALSE_DISCOVERIES
    return [bool(item) for item in survives]


def pack_correct(correct: Iterable[bool]) -> str:
    """Whether each test image was classified correctly, as text: one bit an image.

    >>> pack_correct([True, False, True])
    '3:oA=='
    """
    bits = np.asarray(list(correct), bool)
    return f"{len(bits)}:{base64.b64encode(np.packbits(bits).tobytes()).decode()}"


def unpack_correct(text: str) -> NDArray[np.bool_]:
    """What `pack_correct` packed, (N,).

    >>> unpack_correct("3:oA==").tolist()
    [True, False, True]
    """
    count, _, packed = text.partition(":")
    bits = np.frombuffer(base64.b64decode(packed), np.uint8)
    return np.unpackbits(bits, count=int(count)).astype(bool)


def bootstrap_over_images(baseline: ArrayLike, sp: ArrayLike, confidence: float = 0.95) -> Paired:
    """Percentile bootstrap of a difference in accuracy over the test images, for one seed.

    It describes other test images for these two trained backbones, and says nothing of other
    seeds.

    Args:
        baseline: (N,), whether each test image was classified correctly.
        sp: (N,), the same for the other arm and the same images.
        confidence: in (0, 1), default 0.95.

    Returns:
        The difference of the accuracies with its interval; ``n`` is the number of images.

    Raises:
        ValueError: the arms differ in length.

    >>> found = bootstrap_over_images([False] * 50 + [True] * 50, [False] * 40 + [True] * 60)
    >>> round(found.difference, 3), round(found.low, 2), round(found.high, 2), found.n
    (0.1, 0.05, 0.16, 100)
    """
    before, after = np.asarray(baseline, int), np.asarray(sp, int)
    if len(before) != len(after):
        raise ValueError(f"bootstrap: got {len(before)} images of baseline, {len(after)} of SP")
    n = len(before)
    # A resample's mean depends only on how many images it has of each of the three differences.
    shares = [np.mean(after - before == value) for value in (-1, 0, 1)]
    counts = np.random.default_rng(0).multinomial(n, shares, _RESAMPLES)
    tails = (1 - confidence) / 2, (1 + confidence) / 2
    low, high = np.quantile((counts[:, 2] - counts[:, 0]) / n, tails)
    return Paired(float(np.mean(after - before)), float(low), float(high), n)


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


def cost_ratio(runs: Sequence[Run], baseline: str, arm: str, cost: str = "flops") -> float:
    """Cost of pre-training of an arm over that of another, means over seeds; NaN if not known.

    Args:
        runs: runs of both arms.
        baseline: name of the arm to divide by.
        arm: name of the arm to divide.
        cost: ``flops`` (default) or ``seconds``.

    >>> cost_ratio([Run("baseline", 0, flops=2e9), Run("sp", 0, flops=2.2e9)], "baseline", "sp")
    1.1
    """
    before, after = (
        [value for run in runs if run.arm == name and (value := getattr(run, cost))]
        for name in (baseline, arm)
    )
    return fmean(after) / fmean(before) if before and after else math.nan


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
