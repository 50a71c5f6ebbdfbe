"""The antialiased crop by its definition, in float64: slow, as a reference for other functions."""

from __future__ import annotations

import torch
from torch import Tensor


def reference_crop(images: Tensor, edges: Tensor, size: int) -> Tensor:
    """One box out of each image, computed pixel by pixel.

    An output pixel is a weighted mean of input pixels along both axes. The weight is a triangle
    around the centre of the output pixel, whose half-width is the larger of an input and an output
    pixel, times the fraction of the input pixel that lies in the box. For whole-pixel boxes this
    is torchvision's ``resized_crop(antialias=True)``.

    Args:
        images: (B, C, H, W).
        edges: (B, 4), left, top, right, bottom in pixels, not necessarily whole.
        size: side of the crops in pixels.

    Returns:
        (B, C, size, size), in the images' dtype.

    >>> ramp = torch.arange(8.0).expand(1, 1, 8, 8)
    >>> reference_crop(ramp, torch.tensor([[2.0, 0.0, 6.0, 8.0]]), 4)[0, 0, 0].tolist()
    [2.0, 3.0, 4.0, 5.0]
    """
    crops = []
    for image, (left, top, right, bottom) in zip(images.double(), edges.tolist(), strict=True):
        rows = _means(top, bottom, image.shape[1], size).to(image)
        columns = _means(left, right, image.shape[2], size).to(image)
        crops.append(rows @ image @ columns.T)
    return torch.stack(crops).to(images.dtype)


def _means(low: float, high: float, pixels: int, size: int) -> Tensor:
    """Weights (size, pixels) of the input pixels for every output pixel."""
    step = (high - low) / size
    rows = []
    for i in range(size):
        centre = low + (i + 0.5) * step
        weights = [
            max(0.0, 1 - abs(pixel + 0.5 - centre) / max(1.0, step))
            * max(0.0, min(pixel + 1, high) - max(pixel, low))
            for pixel in range(pixels)
        ]
        rows.append([weight / sum(weights) for weight in weights])
    return torch.tensor(rows, dtype=torch.float64)
