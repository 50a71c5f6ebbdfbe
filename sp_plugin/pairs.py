"""Pairs: which two of a picture's crops are compared. Each crop is encoded once."""

from __future__ import annotations

import torch
from torch import Tensor

ALL = "all"


def count_of(crops: int) -> int:
    """How many pairs there are of so many crops.

    >>> count_of(4)
    6
    """
    return crops * (crops - 1) // 2


def choose_pairs(crops: int, wanted: str | int, generator: torch.Generator) -> Tensor:
    """Pairs of crops, all of them or some drawn at random, none twice.

    Args:
        crops: how many there are.
        wanted: ``all``, or how many pairs; all where there are no more.
        generator: on the CPU; drawn from only where there is something to choose.

    Returns:
        (2, P), int64, on the CPU: which crops are a and b of each pair.

    >>> choose_pairs(3, "all", torch.Generator()).tolist()
    [[0, 0, 1], [1, 2, 2]]
    """
    every = torch.triu_indices(crops, crops, offset=1, device="cpu")
    count = every.shape[1]
    if wanted == ALL or int(wanted) >= count:
        return every
    return every[:, torch.randperm(count, generator=generator, device="cpu")[: int(wanted)]]
