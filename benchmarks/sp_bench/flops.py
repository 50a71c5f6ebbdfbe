"""Floating point operations of forward and backward passes, counted by torch."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from sp_bench.frozen_backbone import float_parameter, unchanged


def count_flops(work: Callable[[], object]) -> float:
    """Floating point operations of ``work``, its backward passes included.

    A multiplication and an addition are two operations. Convolutions, matrix products and
    attention are counted, which are nearly all.

    >>> count_flops(lambda: torch.zeros(3, 5) @ torch.zeros(5, 2))
    60.0
    """
    counter = FlopCounterMode(display=False)
    with counter:
        work()
    return float(counter.get_total_flops())


def forward_flops(backbone: nn.Module, side: int, channels: int = 3) -> dict[str, float]:
    """Operations of one image's forward pass, and the number of the backbone's parameters.

    Args:
        backbone: module that takes (B, channels, side, side).
        side: side of the image in pixels.
        channels: number of channels of the image.

    Returns:
        ``forward_flops`` as by `count_flops`, ``parameters`` and ``side``.

    >>> forward_flops(nn.Conv2d(3, 8, 3, padding=1), 16)["forward_flops"] == 2 * 27 * 8 * 256
    True
    """
    like = float_parameter(backbone, torch.zeros(()))
    image = torch.zeros(1, channels, side, side).to(like)
    with unchanged(backbone, like.device):
        flops = count_flops(lambda: backbone(image))
    return {
        "forward_flops": flops,
        "parameters": float(sum(p.numel() for p in backbone.parameters())),
        "side": float(side),
    }
