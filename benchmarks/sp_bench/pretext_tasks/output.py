"""Output of a peer's step, which skips a loss that is not finite, as SP does."""

from __future__ import annotations

import torch
from torch import Tensor

from sp_plugin import SPOutput


def peer_output(
    loss: Tensor, usable: Tensor, metrics: dict[str, Tensor], boxes: Tensor
) -> SPOutput:
    """The output of a peer, with the metrics that all pretext tasks have.

    Args:
        loss: scalar, without weight.
        usable: scalar bool, whether the features were finite, from
            `sp_plugin.objective.pair_loss.zero_nonfinite`.
        metrics: further metrics of the peer, detached.
        boxes: (2, B, 4), boxes of the crops or views.
    """
    usable = usable & loss.isfinite()
    metrics = {
        "loss": loss.detach(),
        **metrics,
        "skipped_fraction": 1.0 - usable.float(),
    }
    no_targets = boxes.new_zeros(boxes.shape[1], 0)
    loss = torch.where(usable, loss, torch.zeros_like(loss))
    return SPOutput(loss, metrics, boxes, no_targets, no_targets)
