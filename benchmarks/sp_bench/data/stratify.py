"""Seeded choices that keep the share of each class."""

from __future__ import annotations

import numpy as np


def class_ranks(labels: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Shuffles each class by itself.

    Args:
        labels: (N,) integers of any kind.
        seed: Of the shuffle.

    Returns:
        Two arrays of (N,): the place of each image among those of its class, from 0, and the
        number of images in its class.

    Example:
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
    """Parts the images in two, each class alike; scikit-learn's needs larger classes.

    Args:
        labels: (N,) integers; each class has two images or more.
        share: Of each class that goes to the second part, in (0, 1); at least one image does.
        seed: Of the choice.

    Returns:
        The indices of the first and of the second part, each in increasing order.

    Example:
        >>> kept, held_out = split_off(np.array([0] * 10 + [1] * 5), share=0.2, seed=0)
        >>> len(kept), len(held_out), int((held_out < 10).sum())
        (12, 3, 2)
    """
    ranks, counts = class_ranks(labels, seed)
    held_out = ranks < np.maximum(1, np.round(share * counts))
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)


def take(labels: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Chooses ``count`` images, in proportion to the classes and at least one of each.

    A smaller choice is part of a larger one with the same seed.

    Args:
        labels: (N,) integers.
        count: How many, from the number of classes to N.
        seed: Of the choice.

    Returns:
        (count,) indices in increasing order.

    Example:
        >>> chosen = take(np.array([0] * 90 + [1] * 10), count=20, seed=0)
        >>> int((chosen < 90).sum()), int((chosen >= 90).sum())
        (18, 2)
    """
    ranks, counts = class_ranks(labels, seed)
    # Spread over [0, 1), every class is equally dense; the first of each class comes before all.
    place = np.where(ranks == 0, -1.0, (ranks + 0.5) / counts)
    return np.sort(np.argsort(place, kind="stable")[:count])
