"""Filters and random fields that several corruptions use."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F


def pad(x: Tensor, reach: int, mode: str) -> Tensor:
    """Images (..., S, S) with ``reach`` more pixels on each side, by a mode of `numpy.pad`.

    >>> pad(torch.arange(3.0).expand(3, 3), 4, "reflect")[0].tolist()
    [0.0, 1.0, 2.0, 1.0, 0.0, 1.0, 2.0, 1.0, 0.0, 1.0, 2.0]
    """
    index = _padded_index(x.shape[-1], reach, mode)
    return x[..., index[:, None], index]


def convolve(x: Tensor, kernel: Tensor) -> Tensor:
    """Convolve images (B, C, S, S) with a kernel (k, k), k odd; edges reflect, as in OpenCV."""
    channels, k = x.shape[1], kernel.shape[-1]
    weight = kernel.expand(channels, 1, k, k)
    return F.conv2d(pad(x, k // 2, "reflect"), weight, groups=channels)


def blur(x: Tensor, sigma: float, mode: str = "edge", truncate: float = 4) -> Tensor:
    """Gaussian blur of images (..., S, S), by default as in scikit-image.

    Args:
        x: images.
        sigma: standard deviation in pixels; 0: unchanged.
        mode: what lies beyond the edges, as in `numpy.pad`.
        truncate: reach of the filter in standard deviations.

    >>> blur(torch.ones(1, 3, 8, 8), 1.5).sub(1).abs().max().item() < 1e-6
    True
    """
    side, reach = x.shape[-1], int(truncate * sigma + 0.5)
    if reach == 0:
        return x
    taps = torch.exp(-torch.arange(-reach, reach + 1).float().square() / (2 * sigma**2))
    # One axis as a matrix: the filter may reach beyond the edges more than once.
    source = _padded_index(side, reach, mode).unfold(0, 2 * reach + 1, 1)
    matrix = torch.zeros(side, side).scatter_add_(1, source, (taps / taps.sum()).expand(side, -1))
    return matrix @ x @ matrix.T


def motion_blur(x: Tensor, angles: Tensor, radius: float, sigma: float) -> Tensor:
    """Motion blur of ImageMagick: half a Gaussian along a line that starts in each pixel.

    Args:
        x: images (B, C, S, S); edges are repeated.
        angles: (B,) directions in degrees.
        radius: the line has 2 radius + 1 points.
        sigma: standard deviation in pixels.
    """
    side, points = x.shape[-1], torch.arange(2 * math.ceil(radius) + 1).float()
    weights = torch.exp(-points.square() / (2 * sigma**2))
    weights, reach = weights / weights.sum(), len(points)
    radians = torch.deg2rad(angles)[:, None]
    # Whole pixels, which keep the line as sharp as it is in ImageMagick.
    shifts = torch.stack([radians.sin() * points, radians.cos() * points], dim=-1)
    starts = ((shifts - 0.5).ceil().long() + reach).tolist()
    blurred = torch.zeros_like(x)
    for image, out, of_image in zip(pad(x, reach, "edge"), blurred, starts, strict=True):
        for (row, column), weight in zip(of_image, weights.tolist(), strict=True):
            out.add_(image[:, row : row + side, column : column + side], alpha=weight)
    return blurred


def zoom_in(x: Tensor, factor: float) -> Tensor:
    """The center of each image, enlarged by at least ``factor`` to the size of the image.

    As `scipy.ndimage.zoom` does it: a whole number of pixels, whose corners keep their places.

    >>> zoom_in(torch.ones(1, 1, 4, 4), 1.5).shape
    torch.Size([1, 1, 4, 4])
    """
    side = x.shape[-1]
    inner = math.ceil(side / factor)
    outer = round(inner * factor)
    center = _center(x, inner)
    return _center(F.interpolate(center, outer, mode="bilinear", align_corners=True), side)


def plasma(count: int, side: int, decay: float, rng: torch.Generator) -> Tensor:
    """Clouds in [0, 1]: a map of the next power of two by the diamond-square algorithm.

    Args:
        count: number of images.
        side: side of the images in pixels.
        decay: factor above 1, by whose square noise is weaker in each higher octave.
        rng: generator of the noise.

    Returns:
        (count, 1, side, side), the upper left part of the map.
    """
    step = size = 2 ** math.ceil(math.log2(side))
    clouds, amplitude = torch.zeros(count, size, size), 1.0

    def noisy(neighbours: Tensor) -> Tensor:
        noise = 2 * torch.rand(neighbours.shape, generator=rng) - 1
        return neighbours / 4 + amplitude * noise

    while step > 1:
        half = step // 2
        corners, centers = clouds[:, ::step, ::step], clouds[:, half::step, half::step]
        # Each point is the mean of its four neighbours, on a torus, and noise.
        below, right = corners + corners.roll(-1, 1), corners + corners.roll(-1, 2)
        centers.copy_(noisy(below + below.roll(-1, 2)))
        clouds[:, ::step, half::step] = noisy(centers + centers.roll(1, 1) + right)
        clouds[:, half::step, ::step] = noisy(centers + centers.roll(1, 2) + below)
        step, amplitude = half, amplitude / decay**2
    low, high = clouds.amin((1, 2), keepdim=True), clouds.amax((1, 2), keepdim=True)
    return ((clouds - low) / (high - low))[:, None, :side, :side]


def _padded_index(side: int, reach: int, mode: str) -> Tensor:
    return torch.from_numpy(np.pad(np.arange(side), reach, mode=mode))  # type: ignore[call-overload]


def _center(x: Tensor, side: int) -> Tensor:
    start = (x.shape[-1] - side) // 2
    return x[..., start : start + side, start : start + side]
