"""Which of an optimizer's parameter groups a parameter of SP's head joins."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

__all__ = ["best_group", "group_rank", "holds_similar"]


def best_group(groups: Sequence[dict[str, Any]], parameter: Tensor) -> dict[str, Any]:
    """Group that a parameter joins: the first by `group_rank` of those with similar parameters.

    Args:
        groups: at least one; where none has similar parameters, all count.
        parameter: a weight or a bias of the head.
    """
    similar = [group for group in groups if holds_similar(group, parameter)]
    return max(similar or groups, key=group_rank)


def group_rank(group: Mapping[str, Any]) -> tuple[float, float]:
    """Weight decay and learning rate of a group: the head joins the one with the most.

    LARS skips its trust ratio where there is no decay, and the last layer has the highest rate
    where rates fall with depth. timm keeps that factor apart in ``lr_scale``, DINO in
    ``lr_multiplier``.

    >>> group_rank({"lr": 0.5, "lr_scale": 0.5, "weight_decay": 0.05})
    (0.05, 0.25)
    """
    factors = [float(group.get(name, 1)) for name in ("lr_scale", "lr_multiplier")]
    rate = float(group.get("lr", 0)) * math.prod(factors)
    return float(group.get("weight_decay", 0)), rate


def holds_similar(group: Mapping[str, Any], parameter: Tensor) -> bool:
    """Whether a group holds matrices (or convolutions), or vectors, as the parameter is one.

    >>> import torch
    >>> holds_similar({"params": [torch.zeros(2, 2)]}, torch.zeros(2))
    False
    """
    return any((p.ndim > 1) == (parameter.ndim > 1) for p in group["params"])
