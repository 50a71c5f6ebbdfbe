"""SPLoss: how far a prediction is from its target; and R2, how much of the target it tells."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

LOSSES = {"smooth_l1": F.smooth_l1_loss, "l1": F.l1_loss, "mse": F.mse_loss}


class SPLoss(nn.Module):
    """Mean of the position's loss (x and y) and of the scale's: both count the same.

    Smooth L1 with beta 1, on targets of unit variance; ``l1`` and ``mse`` as options. For
    ``mse``, 1 is chance.

    Args:
        kind: one of ``LOSSES``.

    >>> SPLoss("mse")(torch.zeros(1, 3), torch.tensor([[1.0, 1.0, 1.0]])).item()
    1.0
    """

    def __init__(self, kind: str = "smooth_l1") -> None:
        super().__init__()
        if kind not in LOSSES:
            raise ValueError(f"loss: got {kind!r}, takes one of {', '.join(LOSSES)}")
        self.kind = kind

    def forward(self, prediction: Tensor, target: Tensor, counts: Tensor | None = None) -> Tensor:
        """Predictions and targets (B, 3) to a scalar.

        Args:
            prediction, target: finite.
            counts: (B, 3), 1 where a number counts and 0 where it does not; None: all do. Each
                column's mean is over what counts in it, and 0 where nothing does.
        """
        apart = LOSSES[self.kind](prediction, target, reduction="none")
        each = apart.mean(dim=0) if counts is None else _mean(apart, counts)
        return (each[:2].mean() + each[2]) / 2

    def extra_repr(self) -> str:
        return f"kind={self.kind!r}"


def r2(prediction: Tensor, target: Tensor, counts: Tensor | None = None) -> Tensor:
    """R2 = 1 - sum (y - yhat)^2 / sum (y - mean y)^2 of each column, at most 1.

    Args:
        prediction, target: (B, K). Where a target does not vary, as in one row, R2 is NaN.
        counts: (B, K), as for `SPLoss`.

    Returns:
        (K,).

    >>> target = torch.tensor([[1.0], [2.0], [3.0]])
    >>> r2(target, target).item(), r2(torch.full_like(target, 2.0), target).item()
    (1.0, 0.0)
    """
    if counts is None:
        counts = torch.ones_like(target)
    left = ((target - prediction).square() * counts).sum(dim=0)
    total = ((target - _mean(target, counts)).square() * counts).sum(dim=0)
    return torch.where(total > 0, 1 - left / total, torch.nan)


def _mean(values: Tensor, counts: Tensor) -> Tensor:
    """Of each column, over what counts."""
    return (values * counts).sum(dim=0) / counts.sum(dim=0).clamp_min(1)
