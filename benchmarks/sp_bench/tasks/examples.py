"""Images that a task stores for the report of a comparison."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from torchvision.transforms.v2 import functional as image_ops

from sp_bench.data.rgb_display import RGBDisplay

_MAX_SIDE = 128  # pixels


def displayable(images: Tensor, rgb: Sequence[int] | None = None) -> Tensor:
    """Images as small RGB ones.

    Args:
        images: (N, C, S, S), as of `FrozenBackbone.images`.
        rgb: channels to show; None: see `RGBDisplay`.

    Returns:
        (N, 3, s, s), uint8, with s at most 128.

    >>> import torch
    >>> displayable(torch.rand(2, 13, 200, 200)).shape
    torch.Size([2, 3, 128, 128])
    """
    shown = RGBDisplay.fit(images, rgb).to_uint8(images)
    side = min(shown.shape[-1], _MAX_SIDE)
    return image_ops.resize(shown, [side, side], antialias=True)
