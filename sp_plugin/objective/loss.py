"""SPLoss: error of the predictions; and R2, the share of the targets' variance they explain."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sp_plugin.validation import choice

__all__ = ["LOSSES", "SPLoss", "r2"]

LOSSES = {"smooth_l1": F.smooth_l1_loss, "l1": F.l1_loss, "mse": F.mse_loss}


class SPLoss(nn.Module):
    """Mean of the loss of position (x and y) and the loss of scale, with equal weight.

    Smooth L1 with beta 1, on targets of unit variance; ``l1`` and ``mse`` as options. Chance is 1
    for ``mse``.

    Args:
        loss_type: key of ``LOSSES``.

    Raises:
        ConfigError: an unknown ``loss_type``.

    >>> SPLoss("mse")(torch.zeros(1, 3), torch.tensor([[1.0, 1.0, 1.0]])).item()
    1.0
    """

    def __init__(self, loss_type: str = "smooth_l1") -> None:
        super().__init__()
        self.loss_type = choice(*LOSSES)("loss", loss_type)

    def forward(self, prediction: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
        """Loss of predictions against targets, a scalar.

        Args:
            prediction: (B, 3), finite.
            target: (B, 3), finite.
            mask: (B, 3), 1 where a number counts and 0 where not; None: all count. Each column's
                mean is over what counts in it, and 0 where nothing does.
        """
        errors = LOSSES[self.loss_type](prediction, target, reduction="none")
        columns = errors.mean(dim=0) if mask is None else _masked_mean(errors, mask)
        return (columns[:2].mean() + columns[2]) / 2

    def extra_repr(self) -> str:
        return f"loss_type={self.loss_type!r}"


def r2(prediction: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
    """R2 = 1 - sum (y - yhat)^2 / sum (y - mean y)^2 of each column, at most 1.

    Args:
        prediction: (B, K).
        target: (B, K). R2 is NaN where a target is constant, as in one row.
        mask: (B, K), as for `SPLoss`.

    Returns:
        (K,).

    >>> target = torch.tensor([[1.0], [2.0], [3.0]])
    >>> r2(target, target).item(), r2(torch.full_like(target, 2.0), target).item()
    (1.0, 0.0)
    """
    if mask is None:
        mask = torch.ones_like(target)
    residual = ((target - prediction).square() * mask).sum(dim=0)
    total = ((target - _masked_mean(target, mask)).square() * mask).sum(dim=0)
    return torch.where(total > 0, 1 - residual / total, torch.nan)


def _masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of each column over what counts."""
    return (values * mask).sum(dim=0) / mask.sum(dim=0).clamp_min(1)
