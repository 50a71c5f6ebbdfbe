"""What a forward pass costs, counted by torch's own counter."""

from __future__ import annotations

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from sp_plugin.isolation import evaluating, frozen_statistics, private_rng


def forward_flops(backbone: nn.Module, side: int) -> dict[str, float]:
    """Floating point operations of one picture's forward pass, and the backbone's parameters.

    A multiplication and an addition are two. Of convolutions, matrix products and attention, which
    are nearly all there is.

    Args:
        backbone: takes (B, 3, side, side).
        side: in pixels.

    >>> forward_flops(nn.Conv2d(3, 8, 3, padding=1), 16)["forward_flops"] == 2 * 27 * 8 * 256
    True
    """
    like = next((p for p in backbone.parameters() if p.is_floating_point()), torch.zeros(()))
    images = torch.zeros(1, 3, side, side).to(like)
    counter = FlopCounterMode(display=False)
    with private_rng(0, like.device), evaluating(backbone), frozen_statistics(backbone), counter:
        backbone(images)
    return {
        "forward_flops": float(counter.get_total_flops()),
        "parameters": float(sum(p.numel() for p in backbone.parameters())),
        "side": float(side),
    }
