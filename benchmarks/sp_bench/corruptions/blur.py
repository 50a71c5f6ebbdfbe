"""Blurs. Arguments and result are those of `sp_bench.corruptions.Corruption`."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from sp_bench.corruptions.filters import blur, convolve, motion_blur, zoom_in


def defocus(x: Tensor, c: tuple[float, ...], scale: float, rng: torch.Generator) -> Tensor:
    """Defocus: convolution with a disc of radius c[0], blurred by c[1], in pixels."""
    reach = math.ceil(c[0] * scale) + 3
    # The disc consists of whole pixels of the authors' size, each `scale` of these pixels wide.
    fine = (torch.arange(-reach, reach + 1)[:, None] + (torch.arange(9) - 4) / 9).flatten()
    fine = (fine / scale).round()
    disc = (fine[:, None].square() + fine.square() <= c[0] ** 2).float()
    disc = disc.view(2 * reach + 1, 9, 2 * reach + 1, 9).mean(dim=(1, 3))
    disc = blur(disc, c[1] * scale)
    return convolve(x, disc / disc.sum())


def glass(x: Tensor, c: tuple[float, ...], scale: float, rng: torch.Generator) -> Tensor:
    """Structured glass: blur of c[0], pixels moved by at most c[1], c[2] times, blur again."""
    sigma, reach = c[0] * scale, max(1, round(c[1] * scale))
    x = (blur(x, sigma) * 255).floor() / 255
    b, channels, side, _ = x.shape
    for _ in range(int(c[2])):
        source = _moved_pixels(b, side, reach, rng)[:, None].expand(-1, channels, -1)
        x = x.flatten(2).gather(2, source).view_as(x)
    return blur(x, sigma)


def motion(x: Tensor, c: tuple[float, ...], scale: float, rng: torch.Generator) -> Tensor:
    """Motion of the camera at -45 to 45 degrees: radius c[0], sigma c[1], in pixels."""
    angles = 90 * torch.rand(len(x), generator=rng) - 45
    return motion_blur(x, angles, c[0] * scale, c[1] * scale)


def zoom(x: Tensor, c: tuple[float, ...], scale: float, rng: torch.Generator) -> Tensor:
    """Zoom of the camera: mean over enlargements from 1 to c[0], in steps of c[1]."""
    factors = np.arange(1, c[0], c[1])  # whose rounding includes some of the ends
    return (x + sum(zoom_in(x, float(factor)) for factor in factors)) / (len(factors) + 1)


def _moved_pixels(count: int, side: int, reach: int, rng: torch.Generator) -> Tensor:
    """Pixel that each pixel takes its value from, (count, S * S).

    The authors go through the pixels from the last to the first, and each takes the value that a
    random neighbour has by then: that of a later one has been moved already.
    """
    pixels = torch.arange(side * side).view(side, side)
    visited = slice(reach + 1, side - reach + 1)
    extent = pixels[visited, visited].shape
    shift = torch.randint(-reach, reach, (2, count, *extent), generator=rng)
    taken = pixels.repeat(count, 1, 1)
    taken[:, visited, visited] += side * shift[0] + shift[1]
    taken = taken.flatten(1)
    # Each chain of later pixels ends at one that takes the value of an earlier one.
    end, further = taken.new_empty(0), torch.maximum(taken, pixels.flatten())
    while not torch.equal(end, further):
        end, further = further, further.gather(1, further)
    return taken.gather(1, end)
