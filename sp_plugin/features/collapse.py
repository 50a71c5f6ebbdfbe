"""Collapse monitors: how many dimensions a batch of features uses, and how far it spreads."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["feature_std", "rankme"]

_EPS = 1e-7  # of the paper


def rankme(features: Tensor) -> Tensor:
    """RankMe (arXiv 2210.02885): exp of the entropy of the normalised singular values.

    It is bounded by the number of rows and by the width: compare it between numbers of rows that
    are equal. It reads values from the device.

    Args:
        features: (N, D), finite.

    Returns:
        Scalar, from 1 (all rows are multiples of one vector) to min(N, D); 0 without rows.

    >>> round(rankme(torch.eye(4)).item(), 3), round(rankme(torch.ones(8, 4)).item(), 3)
    (4.0, 1.0)
    """
    if not len(features):
        return features.new_zeros(())
    # On the CPU: some devices have no such decomposition, and none is faster at this size.
    values = torch.linalg.svdvals(features.detach().float().cpu())
    shares = values / values.sum().clamp_min(_EPS) + _EPS
    rank: Tensor = (-(shares * shares.log()).sum()).exp()
    return rank.to(features.device)


def feature_std(features: Tensor) -> Tensor:
    """Standard deviation of l2-normalised features, mean over dimensions, as in SimSiam.

    Args:
        features: (N, D), finite.

    Returns:
        Scalar, near 1 / sqrt(D) where features point in all directions, 0 where all in one, and
        with less than two rows.

    >>> feature_std(torch.ones(8, 4)).item()
    0.0
    """
    if len(features) < 2:
        return features.new_zeros(())
    std: Tensor = F.normalize(features.detach().float(), dim=1).std(dim=0)
    return std.mean()
