"""What a peer's step gives: a loss that is left out where it is not finite, as SP's is."""

from __future__ import annotations

import torch
from torch import Tensor

from sp_plugin import SPOutput


def answered(raw: Tensor, usable: Tensor, told: dict[str, Tensor], boxes: Tensor) -> SPOutput:
    """A peer's output, with the metrics that every pretext task has.

    Args:
        raw: its loss, not weighted.
        usable: whether the features were finite, as `sp_plugin.objective.pair_loss.guarded` tells.
        told: metrics of its own.
        boxes: (2, B, 4), what it was asked about.
    """
    usable = usable & raw.isfinite()
    metrics = {
        "loss": raw.detach(),
        **told,
        "skipped_fraction": 1.0 - usable.float(),
    }
    nothing = boxes.new_zeros(boxes.shape[1], 0)
    loss = torch.where(usable, raw, torch.zeros_like(raw))
    return SPOutput(loss, metrics, boxes, nothing, nothing)
