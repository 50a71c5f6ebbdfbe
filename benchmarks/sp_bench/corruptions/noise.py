"""Pixel noise. Arguments and result are those of `sp_bench.corruptions.Corruption`."""

from __future__ import annotations

import torch
from torch import Tensor


def gaussian(x: Tensor, c: tuple[float, ...], scale: float, rng: torch.Generator) -> Tensor:
    """Gaussian noise of standard deviation c[0], for a full range of 1."""
    return x + c[0] * torch.randn(x.shape, generator=rng)


def shot(x: Tensor, c: tuple[float, ...], scale: float, rng: torch.Generator) -> Tensor:
    """Shot noise of light, with c[0] photons for white."""
    return torch.poisson(x * c[0], generator=rng) / c[0]


def impulse(x: Tensor, c: tuple[float, ...], scale: float, rng: torch.Generator) -> Tensor:
    """Impulse noise: a fraction c[0] of all values is black or white."""
    draw = torch.rand(x.shape, generator=rng)
    return x.masked_fill(draw < c[0] / 2, 0).masked_fill(draw > 1 - c[0] / 2, 1)
