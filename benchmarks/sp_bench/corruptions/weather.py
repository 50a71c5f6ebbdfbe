"""Weather. Arguments and result are those of `sp_bench.corruptions.Corruption`."""

from __future__ import annotations

import torch
from torch import Tensor

from sp_bench.corruptions.filters import motion_blur, plasma, zoom_in

_GREY = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)


def snow(x: Tensor, c: tuple[float, ...], scale: float, rng: torch.Generator) -> Tensor:
    """Falling flakes: noise N(c[0], c[1]), enlarged by c[2] and zero below c[3].

    They have motion blur of radius c[4] and sigma c[5] pixels; the image is whitened by 1 - c[6].
    """
    b, _, side, _ = x.shape
    flakes = c[0] + c[1] * torch.randn(b, 1, side, side, generator=rng)
    flakes = zoom_in(flakes, max(1.0, c[2] * scale))
    flakes = flakes.masked_fill(flakes < c[3], 0).clamp(0, 1)
    angles = -135 + 90 * torch.rand(b, generator=rng)
    flakes = motion_blur(flakes, angles, c[4] * scale, c[5] * scale)
    grey = (x * _GREY).sum(dim=1, keepdim=True)
    white = c[6] * x + (1 - c[6]) * torch.maximum(x, grey * 1.5 + 0.5)
    return white + flakes + flakes.rot90(2, dims=(2, 3))


def frost(x: Tensor, c: tuple[float, ...], scale: float, rng: torch.Generator) -> Tensor:
    """The image times c[0] plus frost times c[1].

    The authors take parts of five photographs of frost. Here it is synthetic, veins on clouds, with
    the mean colour, the spread of brightness over images and the contrast of their photographs.
    """
    b, _, side, _ = x.shape
    veins = 1 - (2 * plasma(b, side, 1.4, rng) - 1).abs()
    ice = plasma(b, side, 1.2, rng) + veins**4
    ice = (ice - ice.mean((2, 3), keepdim=True)) / ice.std((2, 3), keepdim=True)
    brightness = 0.40 + 0.49 * torch.rand(b, 1, 1, 1, generator=rng)
    tint = torch.tensor([-0.07, 0.01, 0.06]).view(1, 3, 1, 1)
    return c[0] * x + c[1] * (brightness + tint + 0.105 * ice).clamp(0, 1)


def fog(x: Tensor, c: tuple[float, ...], scale: float, rng: torch.Generator) -> Tensor:
    """Clouds of decay c[1], times c[0], over an image that is dimmed by as much."""
    brightest = x.amax(dim=(1, 2, 3), keepdim=True)
    clouds = plasma(len(x), x.shape[-1], c[1], rng)
    return (x + c[0] * clouds) * brightest / (brightest + c[0])


def brightness(x: Tensor, c: tuple[float, ...], scale: float, rng: torch.Generator) -> Tensor:
    """Value of HSV raised by c[0]; hue and saturation are unchanged."""
    value = x.amax(dim=1, keepdim=True)
    raised = (value + c[0]).clamp_max(1)
    return torch.where(value > 0, x * raised / value.clamp_min(1e-9), raised)
