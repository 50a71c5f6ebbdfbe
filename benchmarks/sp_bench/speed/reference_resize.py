"""The antialiased crop by its definition, in float64: slow, and what others are held to."""

from __future__ import annotations

import torch
from torch import Tensor


def by_definition(images: Tensor, edges: Tensor, size: int) -> Tensor:
    """One box out of each image, output pixel by output pixel.

    Each is the mean of the input pixels along both axes, with the weight of a triangle around its
    own centre, as wide to either side as the coarser of an input and an output pixel, times the
    part of the input pixel that lies in the box. On whole pixels that is torchvision's
    ``resized_crop(antialias=True)``.

    Args:
        images: (B, C, H, W).
        edges: (B, 4), left, top, right, bottom in pixels, fractions too.
        size: side of the crops in pixels.

    Returns:
        (B, C, size, size), in the images' dtype.

    >>> ramp = torch.arange(8.0).expand(1, 1, 8, 8)
    >>> by_definition(ramp, torch.tensor([[2.0, 0.0, 6.0, 8.0]]), 4)[0, 0, 0].tolist()
    [2.0, 3.0, 4.0, 5.0]
    """
    crops = []
    for image, (left, top, right, bottom) in zip(images.double(), edges.tolist(), strict=True):
        rows = _means(top, bottom, image.shape[1], size).to(image)
        columns = _means(left, right, image.shape[2], size).to(image)
        crops.append(rows @ image @ columns.T)
    return torch.stack(crops).to(images.dtype)


def _means(low: float, high: float, pixels: int, size: int) -> Tensor:
    """Weights (size, pixels) of the input pixels in each output pixel."""
    step = (high - low) / size
    rows = []
    for place in range(size):
        centre = low + (place + 0.5) * step
        weights = [
            max(0.0, 1 - abs(pixel + 0.5 - centre) / max(1.0, step))
            * max(0.0, min(pixel + 1, high) - max(pixel, low))
            for pixel in range(pixels)
        ]
        rows.append([weight / sum(weights) for weight in weights])
    return torch.tensor(rows, dtype=torch.float64)
