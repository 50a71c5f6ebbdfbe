"""Pairs: which two of an image's crops are compared. Each crop is encoded once."""

from __future__ import annotations

import torch
from torch import Tensor

from sp_plugin.isolation import make_generator

__all__ = ["ALL", "num_all_pairs", "sample_pairs"]

ALL = "all"


def num_all_pairs(num_crops: int) -> int:
    """Number of pairs of so many crops.

    >>> num_all_pairs(4)
    6
    """
    return num_crops * (num_crops - 1) // 2


def sample_pairs(num_crops: int, num_pairs: str | int = ALL, *keys: int) -> Tensor:
    """All pairs of crops, or some drawn at random, none twice.

    Args:
        num_crops: number of crops.
        num_pairs: ``all``, or a number of pairs; all where there are no more.
        *keys: integers that seed the draw, such as seed, rank and step.

    Returns:
        (2, P), int64, on the CPU: indices of crops a and b of each pair.

    >>> sample_pairs(3, "all").tolist()
    [[0, 0, 1], [1, 2, 2]]
    """
    every = torch.triu_indices(num_crops, num_crops, offset=1, device="cpu")
    count = every.shape[1]
    if num_pairs == ALL or int(num_pairs) >= count:
        return every
    shuffled = torch.randperm(count, generator=make_generator(*keys), device="cpu")
    return every[:, shuffled[: int(num_pairs)]]
