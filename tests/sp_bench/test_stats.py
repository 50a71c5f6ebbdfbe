from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats as scipy_stats
from sp_bench.report.number_format import MISSING, format_interval, verdict
from sp_bench.results import MetricSpec, Run
from sp_bench.stats import (
    bootstrap_over_images,
    pack_correct,
    paired,
    rows,
    survives_correction,
    unpack_correct,
)

METRIC_VALUES = st.floats(-100, 100)
PAIRS = st.lists(st.tuples(METRIC_VALUES, METRIC_VALUES), min_size=2, max_size=8)
KNN = MetricSpec("knn", "kNN")


def test_interval_of_three_seeds_by_hand():
    # Differences 1, 2, 3: mean 2, standard deviation 1. With 2 degrees of freedom P(|T| < t) is
    # t / sqrt(2 + t^2): 0.95 for t = 4.30265, and t is 2 sqrt 3 here.
    half = 0.95 * math.sqrt(2 / (1 - 0.95**2)) / math.sqrt(3)
    p_value = 1 - math.sqrt(12 / 14)
    expected = (2, 2 - half, 2 + half, 3, p_value)
    assert paired([50, 52, 51], [51, 54, 54]) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("confidence", [0.5, 0.95])
def test_interval_is_t_times_standard_error(confidence):
    baseline, sp = np.random.default_rng(0).normal(size=(2, 6))
    half = scipy_stats.t.ppf((1 + confidence) / 2, 5) * scipy_stats.sem(sp - baseline)
    found = paired(list(baseline), list(sp), confidence)
    mean = (sp - baseline).mean()
    assert found[:3] == pytest.approx((mean, mean - half, mean + half), abs=1e-12)


def test_correction_by_hand():
    # The k-th smallest of n survives if it, or a larger one, is at most 0.05 k / n: with n = 3
    # these are 0.0167, 0.0333, 0.05, with n = 4 0.0125, 0.025, 0.0375, 0.05.
    assert survives_correction([0.03, 0.001, 0.9, math.nan]) == [True, True, False, False]
    assert survives_correction([0.03, 0.001, 0.9, 0.8]) == [False, True, False, False]
    assert survives_correction([0.037, 0.001, 0.9, 0.03]) == [True, True, False, True]
    assert survives_correction([]) == []


def test_correct_images_survive_packing():
    correct = np.random.default_rng(0).random(1001) < 0.7
    text = pack_correct(correct)
    assert (unpack_correct(text) == correct).all()
    assert len(text) < 200


def test_bootstrap_matches_scipy():
    draws = np.random.default_rng(0)
    baseline = draws.random(300) < 0.5
    sp = np.where(draws.random(300) < 0.2, ~baseline, baseline)
    difference = sp.astype(float) - baseline
    interval = scipy_stats.bootstrap(
        (difference,), np.mean, method="percentile", random_state=np.random.default_rng(1)
    ).confidence_interval
    found = bootstrap_over_images(baseline, sp)
    assert (found.difference, found.n) == (pytest.approx(difference.mean()), 300)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high), abs=0.005)
    with pytest.raises(ValueError, match="bootstrap: got 300 images of baseline, 299 of SP"):
        bootstrap_over_images(baseline, sp[1:])


@given(PAIRS)
def test_swapped_arms_negate_the_interval(pairs):
    baseline, sp = zip(*pairs, strict=True)
    one, other = paired(baseline, sp), paired(sp, baseline)
    swapped = (-other.difference, -other.high, -other.low)
    assert (one.difference, one.low, one.high) == pytest.approx(swapped, abs=1e-12, nan_ok=True)
    assert one.p_value == pytest.approx(other.p_value, nan_ok=True)


@given(PAIRS, st.floats(-50, 50))
def test_shared_seed_effects_cancel(pairs, shift):
    baseline, sp = (np.array(arm) for arm in zip(*pairs, strict=True))
    assume(np.ptp(sp - baseline) > 1e-6)
    seeds = shift * np.arange(len(pairs))
    shifted = paired(list(baseline + seeds), list(sp + seeds))
    assert shifted[:4] == pytest.approx(paired(list(baseline), list(sp))[:4], abs=1e-9)


@given(PAIRS)
def test_more_confidence_widens_the_interval(pairs):
    baseline, sp = zip(*pairs, strict=True)
    assume(np.ptp(np.subtract(sp, baseline)) > 1e-6)
    narrow, wide = paired(baseline, sp, 0.8), paired(baseline, sp, 0.95)
    assert wide.low <= narrow.low <= narrow.difference <= narrow.high <= wide.high


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("baseline", "sp"),
    [
        ([1.0, 2.0, 4.0], [2.0, 3.0, 5.0]),
        ([0.1, 0.2, 0.3], [0.2, 0.3, 0.4]),  # equal up to rounding: 0.1 and 0.10000000000000003
        ([0.5, 0.25], [0.5, 0.25]),
        ([0.0, 0.0], [0.0, 0.0]),
    ],
)
def test_equal_differences_have_no_interval(baseline, sp):
    found = paired(baseline, sp)
    assert (found.difference, found.n) == (pytest.approx(sp[0] - baseline[0]), len(sp))
    assert np.isnan([found.low, found.high, found.p_value]).all()
    runs = [Run(arm, seed, {"knn": value}) for arm, values in (("baseline", baseline), ("sp", sp))
            for seed, value in enumerate(values)]  # fmt: skip
    (row,) = rows(runs, [KNN])
    assert (verdict(row), format_interval(row)) == ("", MISSING)
    assert survives_correction([row.p_value, 0.01]) == [False, True]


def test_small_spread_is_a_spread():
    """Two images of 1,000,000: far above the rounding of float64."""
    found = paired([0.5, 0.5, 0.5], [0.6, 0.600001, 0.600002])
    assert found.low < found.difference < found.high
    assert 0 < found.p_value < 1e-6


@pytest.mark.filterwarnings("error")
def test_one_seed_has_no_interval():
    found = paired([0.5], [0.75])
    assert (found.difference, found.n) == (0.25, 1)
    assert math.isnan(found.low)
    assert math.isnan(found.high)
    assert math.isnan(found.p_value)


def test_no_seed_and_nan_metrics_give_nan():
    assert np.isnan(paired([], [])[:3]).all()
    assert np.isnan(paired([1.0, math.nan], [1.0, 2.0])[:3]).all()


def test_unequal_arms_are_refused():
    with pytest.raises(ValueError, match=r"^paired: got 2 values of baseline, 1 of SP$"):
        paired([1.0, 2.0], [1.0])


@pytest.mark.parametrize("confidence", [0, 1, 95])
def test_invalid_confidence_is_refused(confidence):
    with pytest.raises(ValueError, match="takes a number between 0 and 1"):
        paired([1.0, 2.0], [1.0, 2.0], confidence)


def test_rows_pair_common_seeds():
    runs = [
        Run("sp", 2, {"knn": 9.0}),
        Run("sp", 1, {"knn": 4.0}),
        Run("baseline", 0, {"knn": 1.0}),
        Run("sp", 0, {"knn": 3.0}),
        Run("baseline", 1, {"knn": 3.0}),
        Run("baseline", 3, {"knn": 50.0}),
    ]
    (row,) = rows(runs, [KNN])
    # Seeds 0 and 1; differences 2 and 1, t(0.975, 1) = 12.7062.
    half = 12.706204736 * math.sqrt(0.5) / math.sqrt(2)
    assert (row.metric, row.baseline, row.sp, row.seeds) == (KNN, 2.0, 3.5, 2)
    assert (row.difference, row.low, row.high) == pytest.approx((1.5, 1.5 - half, 1.5 + half))


def test_rows_follow_metric_order():
    linear, absent = MetricSpec("linear", "linear"), MetricSpec("jigsaw", "jigsaw")
    runs = [
        Run("baseline", 0, {"knn": 1.0, "linear": 5.0}),
        Run("sp", 0, {"knn": 2.0, "linear": 7.0}),
        Run("baseline", 1, {"knn": 1.0}),
        Run("sp", 1, {"knn": 1.0}),
    ]
    found = rows(runs, [linear, absent, KNN])
    assert [row.metric for row in found] == [linear, absent, KNN]
    assert [row.seeds for row in found] == [1, 0, 2]
    assert [row.difference for row in found] == pytest.approx([2.0, math.nan, 0.5], nan_ok=True)
    assert math.isnan(found[1].baseline)


def test_later_run_of_the_same_seed_counts():
    runs = [
        Run("sp", 0, {"knn": 1.0}),
        Run("baseline", 0, {"knn": 1.0}),
        Run("sp", 0, {"knn": 3.0}),
    ]
    assert rows(runs, [KNN])[0].sp == 3.0
