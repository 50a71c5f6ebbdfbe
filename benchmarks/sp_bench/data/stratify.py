"""Stratified choices: seeded splits and subsets that keep the share of each class."""

from __future__ import annotations

import numpy as np


def class_ranks(labels: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Shuffle each class separately.

    Args:
        labels: (N,) integers.
        seed: seed of the shuffle.

    Returns:
        Rank of each image within its class, (N,), from 0; and size of its class, (N,).

    >>> ranks, counts = class_ranks(np.array([7, 7, 9]), seed=0)
    >>> sorted(ranks[:2].tolist()), int(ranks[2]), counts.tolist()
    ([0, 1], 0, [2, 2, 1])
    """
    rng = np.random.default_rng(seed)
    ranks = np.empty(len(labels), dtype=np.int64)
    counts = np.empty(len(labels), dtype=np.int64)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        ranks[members] = rng.permutation(len(members))
        counts[members] = len(members)
    return ranks, counts


def split_off(labels: np.ndarray, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Stratified split into two parts; scikit-learn's needs larger classes.

    Args:
        labels: (N,) integers; each class has two images or more.
        share: fraction of each class in the second part, in (0, 1); at least one image.
        seed: seed of the choice.

    Returns:
        Indices of the first part and of the second part, both increasing.

    >>> train, held_out = split_off(np.array([0] * 10 + [1] * 5), share=0.2, seed=0)
    >>> len(train), len(held_out), int((held_out < 10).sum())
    (12, 3, 2)
    """
    ranks, counts = class_ranks(labels, seed)
    held_out = ranks < np.maximum(1, np.round(share * counts))
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)


def take(labels: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Stratified subset of ``count`` images, with at least one image of each class.

    A smaller subset is part of a larger one with the same seed.

    Args:
        labels: (N,) integers.
        count: size of the subset, from the number of classes to N.
        seed: seed of the choice.

    Returns:
        (count,) increasing indices.

    >>> subset = take(np.array([0] * 90 + [1] * 10), count=20, seed=0)
    >>> int((subset < 90).sum()), int((subset >= 90).sum())
    (18, 2)
    """
    ranks, counts = class_ranks(labels, seed)
    # Over [0, 1) every class is equally dense; the first image of each class precedes all others.
    position = np.where(ranks == 0, -1.0, (ranks + 0.5) / counts)
    return np.sort(np.argsort(position, kind="stable")[:count])
