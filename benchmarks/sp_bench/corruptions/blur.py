"""Blurs. Arguments and result are those of `sp_bench.corruptions.Corruption`."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sp_bench.corruptions.filters import blur, convolve, motion_kernels, zoom_in


def defocus(x: Tensor, c: tuple[float, ...], scale: float, rng: torch.Generator) -> Tensor:
    """Defocus: convolution with a disc of radius c[0], blurred by c[1], in pixels."""
    radius = c[0] * scale
    reach = math.ceil(radius) + 3
    pixels = torch.arange(-reach, reach + 1).float()
    # Pixels that the disc covers as a whole count as in the authors' file, others by the covered
    # part.
    fine = (pixels[:, None] + (torch.arange(9) - 4) / 9).flatten()
    disc = (fine[:, None].square() + fine.square() <= max(radius, 0.5) ** 2).float()
    disc = disc.view(2 * reach + 1, 9, 2 * reach + 1, 9).mean(dim=(1, 3))
    disc = blur(disc[None, None], c[1] * max(scale, 1))[0]
    return convolve(x, disc / disc.sum())


def glass(x: Tensor, c: tuple[float, ...], scale: float, rng: torch.Generator) -> Tensor:
    """Structured glass: blur of c[0], shifts of at most c[1] pixels, c[2] times, blur again.

    The authors swap pixels one after the other, which can move a pixel far; here all pixels are
    shifted at once, each by a random offset.
    """
    sigma, max_shift = c[0] * scale, max(1, round(c[1] * scale))
    x = blur(x, sigma)
    b, channels, side, _ = x.shape
    pixels = torch.arange(side)
    for _ in range(int(c[2])):
        # From -max_shift to max_shift - 1, as in the authors' file.
        shift = torch.randint(-max_shift, max_shift, (2, b, side, side), generator=rng)
        rows = (pixels[:, None] + shift[0]).clamp(0, side - 1)
        columns = (pixels + shift[1]).clamp(0, side - 1)
        index = (rows * side + columns).flatten(1)[:, None].expand(-1, channels, -1)
        x = x.flatten(2).gather(2, index).view(b, channels, side, side)
    return blur(x, sigma)


def motion(x: Tensor, c: tuple[float, ...], scale: float, rng: torch.Generator) -> Tensor:
    """Motion of the camera at -45 to 45 degrees: radius c[0], sigma c[1], in pixels."""
    angles = 90 * torch.rand(len(x), generator=rng) - 45
    return convolve(x, motion_kernels(angles, c[0] * scale, c[1] * scale))


def zoom(x: Tensor, c: tuple[float, ...], scale: float, rng: torch.Generator) -> Tensor:
    """Zoom of the camera: mean over enlargements from 1 to below c[0], in steps of c[1]."""
    factors = torch.arange(1, c[0] - c[1] / 2, c[1]).tolist()
    return (x + sum(zoom_in(x, factor) for factor in factors)) / (len(factors) + 1)
