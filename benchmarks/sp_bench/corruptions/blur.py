"""Blurs."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sp_bench.corruptions.filters import blur, convolve, motion_kernels, zoomed


def defocus(x: Tensor, c: tuple[float, ...], scale: float, rng: torch.Generator) -> Tensor:
    """Of a lens out of focus: a disc of radius c[0], its edge softened by c[1], in pixels."""
    radius = c[0] * scale
    reach = math.ceil(radius) + 3
    at = torch.arange(-reach, reach + 1).float()
    # Whole pixels as in the authors' file; ones that the disc covers a part of, by that part.
    fine = (at[:, None] + (torch.arange(9) - 4) / 9).flatten()
    disc = (fine[:, None].square() + fine.square() <= max(radius, 0.5) ** 2).float()
    disc = disc.view(2 * reach + 1, 9, 2 * reach + 1, 9).mean(dim=(1, 3))
    disc = blur(disc[None, None], c[1] * max(scale, 1))[0]
    return convolve(x, disc / disc.sum())


def glass(x: Tensor, c: tuple[float, ...], scale: float, rng: torch.Generator) -> Tensor:
    """Through structured glass: blur of c[0], pixels moved c[1] at most, c[2] times, blur again.

    The authors swap pixels one after the other, which moves some of them far; here all are moved
    at once, each to a place drawn for it.
    """
    sigma, most = c[0] * scale, max(1, round(c[1] * scale))
    x = blur(x, sigma)
    b, channels, side, _ = x.shape
    place = torch.arange(side)
    for _ in range(int(c[2])):
        # From -most to most - 1, as in the authors' file.
        move = torch.randint(-most, most, (2, b, side, side), generator=rng)
        rows = (place[:, None] + move[0]).clamp(0, side - 1)
        columns = (place + move[1]).clamp(0, side - 1)
        index = (rows * side + columns).flatten(1)[:, None].expand(-1, channels, -1)
        x = x.flatten(2).gather(2, index).view(b, channels, side, side)
    return blur(x, sigma)


def motion(x: Tensor, c: tuple[float, ...], scale: float, rng: torch.Generator) -> Tensor:
    """Of a camera that moves at -45 to 45 degrees: radius c[0], sigma c[1], in pixels."""
    angles = 90 * torch.rand(len(x), generator=rng) - 45
    return convolve(x, motion_kernels(angles, c[0] * scale, c[1] * scale))


def zoom(x: Tensor, c: tuple[float, ...], scale: float, rng: torch.Generator) -> Tensor:
    """Of a camera that comes nearer: the mean over enlargements of 1 to below c[0], by c[1]."""
    factors = torch.arange(1, c[0] - c[1] / 2, c[1]).tolist()
    return (x + sum(zoomed(x, factor) for factor in factors)) / (len(factors) + 1)
