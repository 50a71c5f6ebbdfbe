"""Filters and random fields that several corruptions use."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F


def convolve(x: Tensor, kernels: Tensor) -> Tensor:
    """Convolve each image with its own kernel, or all with one; edges reflect.

    Args:
        x: (B, C, S, S).
        kernels: (B, k, k) or (1, k, k), k odd.

    Returns:
        (B, C, S, S).
    """
    b, channels = x.shape[:2]
    k = kernels.shape[-1]
    weight = kernels.expand(b, k, k).repeat_interleave(channels, dim=0).unsqueeze(1)
    padded = _pad(x, k // 2).reshape(1, b * channels, x.shape[2] + k - 1, x.shape[3] + k - 1)
    return F.conv2d(padded, weight, groups=b * channels).view_as(x)


def blur(x: Tensor, sigma: float) -> Tensor:
    """Gaussian blur of ``sigma`` pixels, truncated at 4 sigma as in scikit-image; 0: unchanged.

    >>> blur(torch.ones(1, 3, 8, 8), 1.5).sub(1).abs().max().item() < 1e-6
    True
    """
    reach = min(math.ceil(4 * sigma), x.shape[-1] - 1)
    if sigma == 0 or reach == 0:
        return x
    kernel = torch.exp(-torch.arange(-reach, reach + 1).float().square() / (2 * sigma**2))
    kernel = kernel / kernel.sum()
    channels = x.shape[1]
    weight = kernel.expand(channels, 1, 1, -1)
    rows = F.conv2d(_pad(x, reach), weight, groups=channels)
    return F.conv2d(rows, weight.transpose(2, 3), groups=channels)


def motion_kernels(angles: Tensor, radius: float, sigma: float) -> Tensor:
    """Motion kernels: half a Gaussian along a line that starts in the center.

    As in ImageMagick's motion blur, which the authors call: 2 radius + 1 points, of which the first
    is the pixel itself.

    Args:
        angles: (B,) directions in degrees.
        radius: radius in pixels.
        sigma: standard deviation in pixels.

    Returns:
        (B, k, k), each with sum 1.
    """
    points = torch.arange(2 * math.ceil(radius) + 1).float()
    weight = torch.exp(-points.square() / (2 * sigma**2))
    weight = torch.where(weight > 1e-3, weight, 0.0)  # invisible beyond
    points, weight = points[weight > 0], weight[weight > 0]
    reach = int(points.max()) + 1
    radians = torch.deg2rad(angles)[:, None]
    x, y = points * radians.cos() + reach, points * radians.sin() + reach
    kernels = torch.zeros(len(angles), (2 * reach + 1) ** 2)
    for dx in (0, 1):
        for dy in (0, 1):
            column, row = x.floor() + dx, y.floor() + dy
            share = (1 - (x - column).abs()) * (1 - (y - row).abs())
            index = (row * (2 * reach + 1) + column).long()
            kernels.scatter_add_(1, index, share.clamp_min(0) * weight)
    kernels = kernels / kernels.sum(dim=1, keepdim=True)
    return kernels.view(-1, 2 * reach + 1, 2 * reach + 1)


def zoom_in(x: Tensor, factor: float) -> Tensor:
    """The center of each image, enlarged by ``factor`` to the size of the image.

    >>> zoom_in(torch.ones(1, 1, 4, 4), 1.5).shape
    torch.Size([1, 1, 4, 4])
    """
    theta = torch.tensor([[1 / factor, 0.0, 0.0], [0.0, 1 / factor, 0.0]])
    grid = F.affine_grid(theta.expand(len(x), 2, 3), list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, padding_mode="reflection", align_corners=False)


def plasma(count: int, side: int, decay: float, rng: torch.Generator) -> Tensor:
    """Clouds in [0, 1]: noise that is ``decay`` times weaker in each higher octave.

    The authors use midpoint displacement on a square grid, which leaves creases; here the noise
    has the same spectrum and no creases.

    Args:
        count: number of images.
        side: side of the images in pixels.
        decay: factor above 1; larger values are smoother.
        rng: generator of the noise.

    Returns:
        (count, 1, side, side).
    """
    frequency = torch.hypot(
        torch.fft.fftfreq(side)[:, None], torch.fft.rfftfreq(side)[None]
    ).clamp_min(1 / side)
    noise = torch.randn(count, side, side, generator=rng)
    spectrum = torch.fft.rfft2(noise) / frequency ** (1 + math.log2(decay))
    waves = torch.fft.irfft2(spectrum, s=(side, side)).flatten(1)
    low, high = waves.amin(1, keepdim=True), waves.amax(1, keepdim=True)
    return ((waves - low) / (high - low)).view(count, 1, side, side)


def _pad(x: Tensor, pad: int) -> Tensor:
    # Reflection cannot reach beyond the image.
    near = min(pad, x.shape[-1] - 1)
    x = F.pad(x, (near,) * 4, mode="reflect")
    return F.pad(x, (pad - near,) * 4, mode="replicate") if pad > near else x
