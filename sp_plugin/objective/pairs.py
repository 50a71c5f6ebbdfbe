"""Pairs: which two of an image's crops are compared. Each crop is encoded once."""

from __future__ import annotations

import torch
from torch import Tensor

from sp_plugin.isolation import make_generator

ALL = "all"


def num_all_pairs(crops: int) -> int:
    """How many pairs there are of so many crops.

    >>> num_all_pairs(4)
    6
    """
    return crops * (crops - 1) // 2


def sample_pairs(crops: int, wanted: str | int = ALL, *keys: int) -> Tensor:
    """Pairs of crops, all of them or some drawn at random, none twice.

    Args:
        crops: how many there are.
        wanted: ``all``, or how many pairs; all where there are no more.
        *keys: which draw this is, such as seed, rank and step.

    Returns:
        (2, P), int64, on the CPU: which crops are a and b of each pair.

    >>> sample_pairs(3, "all").tolist()
    [[0, 0, 1], [1, 2, 2]]
    """
    every = torch.triu_indices(crops, crops, offset=1, device="cpu")
    count = every.shape[1]
    if wanted == ALL or int(wanted) >= count:
        return every
    shuffled = torch.randperm(count, generator=make_generator(*keys), device="cpu")
    return every[:, shuffled[: int(wanted)]]
