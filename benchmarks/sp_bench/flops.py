"""What a forward or backward pass costs, counted by torch's own counter."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from sp_plugin.isolation import eval_mode, frozen_running_stats, private_rng


def counted(work: Callable[[], object]) -> float:
    """Floating point operations of whatever ``work`` computes, backward passes among it.

    A multiplication and an addition are two. Of convolutions, matrix products and attention, which
    are nearly all there is.

    >>> counted(lambda: torch.zeros(3, 5) @ torch.zeros(5, 2))
    60.0
    """
    counter = FlopCounterMode(display=False)
    with counter:
        work()
    return float(counter.get_total_flops())


def forward_flops(backbone: nn.Module, side: int) -> dict[str, float]:
    """Operations of one image's forward pass, as `counted`, and the backbone's parameters.

    Args:
        backbone: takes (B, 3, side, side).
        side: in pixels.

    >>> forward_flops(nn.Conv2d(3, 8, 3, padding=1), 16)["forward_flops"] == 2 * 27 * 8 * 256
    True
    """
    like = next((p for p in backbone.parameters() if p.is_floating_point()), torch.zeros(()))
    images = torch.zeros(1, 3, side, side).to(like)
    with private_rng(0, like.device), eval_mode(backbone), frozen_running_stats(backbone):
        flops = counted(lambda: backbone(images))
    return {
        "forward_flops": flops,
        "parameters": float(sum(p.numel() for p in backbone.parameters())),
        "side": float(side),
    }
