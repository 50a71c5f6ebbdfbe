"""Which of an optimizer's parameter groups a parameter of SP's head joins."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor

__all__ = ["group_rank", "holds_similar"]


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
