"""From runs to rows: what SP changed, seed by seed, and how sure that is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from sp_bench.results import BASELINE, SP, MetricSpec, Row, Run


class Paired(NamedTuple):
    """Mean of the paired differences, SP less baseline, with its interval, over n pairs."""

    difference: float
    low: float
    high: float
    n: int


def paired(baseline: Sequence[float], sp: Sequence[float], confidence: float = 0.95) -> Paired:
    """The t interval of paired differences.

    Pairing takes out what a seed does to both arms; the interval supposes that the differences
    are near normal. With few seeds it is wide, as it must be: 2.5 standard deviations either way
    at 3 seeds, 1.2 at 5.

    Args:
        baseline: one figure a seed.
        sp: the same of the other arm, in the same order.
        confidence: in (0, 1).

    Returns:
        Bounds are NaN for one pair, which tells nothing of the spread; all is NaN where one of
        the figures is, and for no pair at all.

    Raises:
        ValueError: the arms are not equally long, or the confidence is out of range.

    >>> difference, low, high, n = paired([50, 52, 51], [51, 54, 54])
    >>> difference, round(low, 2), round(high, 2), n
    (2.0, -0.48, 4.48, 3)
    """
    if len(baseline) != len(sp):
        raise ValueError(f"paired: got {len(baseline)} figures of baseline, {len(sp)} of SP")
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
    runs: Sequence[Run], figures: Sequence[MetricSpec], baseline: str = BASELINE, arm: str = SP
) -> list[Row]:
    """The table: a row for each figure, over the seeds that both arms have it of.

    Args:
        runs: finished ones, in any order; of two with the same arm and seed the later counts.
        figures: of the tasks that were run, in the order of the rows.
        baseline: the arm that it is compared with.
        arm: what is compared; a row calls it ``sp``, whatever it is.

    Returns:
        Rows whose means are over the same seeds as the difference; NaN where no seed is shared.

    >>> runs = [Run("baseline", 0, {"knn": 0.5}), Run("sp", 0, {"knn": 0.75}), Run("sp", 1)]
    >>> row = rows(runs, [MetricSpec("knn", "kNN")])[0]
    >>> row.baseline, row.sp, row.difference, row.seeds
    (0.5, 0.75, 0.25, 1)
    """
    return [_row(runs, figure, baseline, arm) for figure in figures]


def over_hosts(found: Sequence[Row]) -> Row:
    """What SP changed in the mean over hosts, and how sure that is of another host.

    Each host counts once, by its means over seeds, however many these are; the t interval is that
    of the hosts' differences, so it is of hosts like these, not of more seeds of them.

    Args:
        found: one row for each host, of one figure; those without a seed are left out.

    Returns:
        A row whose ``seeds`` counts hosts.

    >>> knn = MetricSpec("knn", "kNN")
    >>> row = over_hosts([Row(knn, 1, 2, 1, 0, 2, 3), Row(knn, 1, 4, 3, 3, 3, 2)])
    >>> row.difference, round(row.low, 1), round(row.high, 1), row.seeds
    (2.0, -10.7, 14.7, 2)
    """
    measured = [row for row in found if row.seeds]
    theirs, ours = [row.baseline for row in measured], [row.sp for row in measured]
    difference, low, high, n = paired(theirs, ours)
    return Row(found[0].figure, _mean(theirs), _mean(ours), difference, low, high, n)


def _row(runs: Sequence[Run], figure: MetricSpec, baseline: str, arm: str) -> Row:
    other, sp = (_by_seed(runs, name, figure.key) for name in (baseline, arm))
    shared = sorted(other.keys() & sp.keys())
    ours, theirs = [sp[seed] for seed in shared], [other[seed] for seed in shared]
    difference, low, high, n = paired(theirs, ours)
    return Row(figure, _mean(theirs), _mean(ours), difference, low, high, n)


def _by_seed(runs: Sequence[Run], arm: str, key: str) -> dict[int, float]:
    return {run.seed: run.figures[key] for run in runs if run.arm == arm and key in run.figures}


def _mean(figures: list[float]) -> float:
    return float(np.mean(figures)) if figures else math.nan
