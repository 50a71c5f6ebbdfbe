"""Filters and warps that several corruptions share."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F


def convolve(x: Tensor, kernels: Tensor) -> Tensor:
    """Each image with its own kernel, or all with one; edges are reflected.

    Args:
        x: (B, C, S, S).
        kernels: (B, k, k) or (1, k, k), k odd.

    Returns:
        (B, C, S, S).
    """
    b, channels = x.shape[:2]
    k = kernels.shape[-1]
    weight = kernels.expand(b, k, k).repeat_interleave(channels, dim=0).unsqueeze(1)
    padded = _padded(x, k // 2).reshape(1, b * channels, x.shape[2] + k - 1, x.shape[3] + k - 1)
    return F.conv2d(padded, weight, groups=b * channels).view_as(x)


def blur(x: Tensor, sigma: float) -> Tensor:
    """Gaussian blur of sigma pixels, cut at 4 sigma as scikit-image cuts it; 0 is none.

    >>> blur(torch.ones(1, 3, 8, 8), 1.5).sub(1).abs().max().item() < 1e-6
    True
    """
    reach = min(math.ceil(4 * sigma), x.shape[-1] - 1)
    if sigma == 0 or reach == 0:
        return x
    along = torch.exp(-torch.arange(-reach, reach + 1).float().square() / (2 * sigma**2))
    along = along / along.sum()
    columns = x.shape[1]
    padded = _padded(x, reach)
    weight = along.expand(columns, 1, 1, -1)
    rows = F.conv2d(padded, weight, groups=columns)
    return F.conv2d(rows, weight.transpose(2, 3), groups=columns)


def motion_kernels(angles: Tensor, radius: float, sigma: float) -> Tensor:
    """Kernels of motion: half a Gaussian along a line that starts in the middle.

    As ImageMagick's motion blur, which the authors call: 2 radius + 1 points, the first of them
    the pixel itself.

    Args:
        angles: (B,) in degrees.
        radius: in pixels.
        sigma: in pixels.

    Returns:
        (B, k, k), each of sum 1.
    """
    points = torch.arange(2 * math.ceil(radius) + 1).float()
    weight = torch.exp(-points.square() / (2 * sigma**2))
    weight = torch.where(weight > 1e-3, weight, 0.0)  # beyond, nothing is seen of it
    points, weight = points[weight > 0], weight[weight > 0]
    reach = int(points.max()) + 1
    radians = torch.deg2rad(angles)[:, None]
    x, y = points * radians.cos() + reach, points * radians.sin() + reach
    kernels = torch.zeros(len(angles), (2 * reach + 1) ** 2)
    for dx in (0, 1):
        for dy in (0, 1):
            column, row = x.floor() + dx, y.floor() + dy
            share = (1 - (x - column).abs()) * (1 - (y - row).abs())
            place = (row * (2 * reach + 1) + column).long()
            kernels.scatter_add_(1, place, share.clamp_min(0) * weight)
    kernels = kernels / kernels.sum(dim=1, keepdim=True)
    return kernels.view(-1, 2 * reach + 1, 2 * reach + 1)


def zoomed(x: Tensor, factor: float) -> Tensor:
    """The middle of each image, enlarged to its size.

    >>> zoomed(torch.ones(1, 1, 4, 4), 1.5).shape
    torch.Size([1, 1, 4, 4])
    """
    theta = torch.tensor([[1 / factor, 0.0, 0.0], [0.0, 1 / factor, 0.0]])
    grid = F.affine_grid(theta.expand(len(x), 2, 3), list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, padding_mode="reflection", align_corners=False)


def plasma(count: int, side: int, decay: float, rng: torch.Generator) -> Tensor:
    """Clouds in [0, 1]: noise that is ``decay`` times weaker from each octave to the next.

    The authors draw it by midpoints on a square grid, which leaves creases; here it has the same
    spectrum and no creases.

    Args:
        count: how many.
        side: in pixels.
        decay: above 1; the larger, the smoother.
        rng: to draw from.

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


def _padded(x: Tensor, pad: int) -> Tensor:
    # Reflection reaches no further than the image.
    near = min(pad, x.shape[-1] - 1)
    x = F.pad(x, (near,) * 4, mode="reflect")
    return F.pad(x, (pad - near,) * 4, mode="replicate") if pad > near else x
