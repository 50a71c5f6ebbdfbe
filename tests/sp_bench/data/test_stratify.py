from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sp_bench.data.stratify import split_off, take

COUNTS = st.lists(st.integers(2, 40), min_size=2, max_size=6)
SEEDS = st.integers(0, 5)


def labels_of(counts: list[int]) -> np.ndarray:
    labels = np.repeat(np.arange(len(counts)), counts)
    return np.random.default_rng(9).permutation(labels)


@given(counts=COUNTS, seed=SEEDS)
@settings(max_examples=60)
def test_split_keeps_class_shares(counts, seed):
    labels = labels_of(counts)
    kept, out = split_off(labels, 0.2, seed)
    np.testing.assert_array_equal(np.sort(np.concatenate([kept, out])), np.arange(len(labels)))
    for label, count in enumerate(counts):
        mine = int((labels[out] == label).sum())
        assert 1 <= mine < count
        assert mine == 1 or abs(mine - 0.2 * count) <= 0.5


@given(counts=COUNTS, seed=SEEDS, data=st.data())
@settings(max_examples=60)
def test_subset_keeps_shares_and_classes(counts, seed, data):
    labels = labels_of(counts)
    count = data.draw(st.integers(len(counts), len(labels)))
    some = take(labels, count, seed)
    assert len(set(some.tolist())) == count
    for label, size in enumerate(counts):
        mine = int((labels[some] == label).sum())
        assert mine >= 1
        assert mine <= 1 + np.ceil(size * count / len(labels))


@given(counts=COUNTS, seed=SEEDS)
@settings(max_examples=30)
def test_smaller_subset_is_nested(counts, seed):
    labels = labels_of(counts)
    larger = set(take(labels, len(labels) - 1, seed).tolist())
    assert set(take(labels, len(counts), seed).tolist()) <= larger


def held_out(labels: np.ndarray, seed: int) -> np.ndarray:
    return split_off(labels, 0.2, seed)[1]


def subset(labels: np.ndarray, seed: int) -> np.ndarray:
    return take(labels, 30, seed)


@pytest.mark.parametrize("choose", [held_out, subset])
def test_choice_depends_on_seed_only(choose):
    labels = labels_of([50, 50, 50])
    np.testing.assert_array_equal(choose(labels, 1), choose(labels, 1))
    assert not np.array_equal(choose(labels, 1), choose(labels, 2))
