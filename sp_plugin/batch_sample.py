"""The part of a batch that SP sees: with ``sample_fraction`` below 1 a few images of each step."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sp_plugin.isolation import make_generator
from sp_plugin.structures import Crops, EncodedViews, UncoloredCrops

__all__ = ["sample_images"]

_MIN_IMAGES = 2  # BatchNorm needs more than one


def sample_images(
    images: Tensor | Crops | UncoloredCrops | EncodedViews, fraction: float, *keys: int
) -> Tensor | Crops | UncoloredCrops | EncodedViews:
    """A random part of a batch's images, without replacement, in their order.

    Args:
        images: (B, C, H, W), or what was made of B images.
        fraction: of the images, in (0, 1], rounded up, at least two; so it is the same number on
            all ranks that have batches of one size.
        *keys: integers such as (seed, rank, step), which determine the draw; no global generator
            is used.

    >>> sample_images(torch.rand(16, 3, 8, 8), 0.25, 0, 0, 0).shape
    torch.Size([4, 3, 8, 8])
    """
    batch_size = len(images) if isinstance(images, Tensor) else images.boxes.shape[1]
    # Rounded first: 0.07 * 100 is a little above 7.
    size = max(_MIN_IMAGES, math.ceil(round(batch_size * fraction, 6)))
    if size >= batch_size:
        return images
    indices = torch.randperm(batch_size, generator=make_generator(*keys), device="cpu")
    indices = indices[:size].sort().values
    if isinstance(images, Tensor):
        return images[indices.to(images.device, non_blocking=True)]
    return images.of_images(indices.to(images.boxes.device, non_blocking=True))
