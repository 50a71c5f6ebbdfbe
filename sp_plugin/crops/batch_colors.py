"""Colours of SP's crops, of a whole batch at once on its device, each crop with draws of its own.

With ``source="image"`` the data loader only cuts. `color_crops` follows in the training step, after
``sample_fraction`` has chosen the images: colours first, then the method's normalisation.

RGB has the jitter and greyscale of BYOL (arXiv 2006.07733, appendix B) and the blur of SimCLR
(arXiv 2002.05709, appendix A), grey images what of these needs no colour, and images of other
channels a gain and an offset for each channel. All draws are of a private generator on the CPU, and
go to the device together. The order of the four operations of
the jitter is drawn once for the batch; everything else is drawn for each crop.
"""

from __future__ import annotations

import random
from collections.abc import Callable

import torch
from torch import Tensor

from sp_plugin.crops.color_ops import (
    adjust_brightness,
    adjust_contrast,
    adjust_hue,
    adjust_saturation,
    gaussian_blur,
    jitter_channels,
    per_image,
    rgb_to_grayscale,
)
from sp_plugin.structures import RGB_CHANNELS, Crops, UncoloredCrops

__all__ = ["color_crops", "recolor"]

_JITTER_P, _GREY_P, _BLUR_P = 0.8, 0.2, 0.5
# Operations of the jitter, with what their factors are without a change, and how far they go.
_JITTER: tuple[tuple[Callable[[Tensor, Tensor], Tensor], float, float], ...] = (
    (adjust_brightness, 1.0, 0.4),
    (adjust_contrast, 1.0, 0.4),
    (adjust_saturation, 1.0, 0.2),
    (adjust_hue, 0.0, 0.1),
)
_GREY_JITTER = _JITTER[:2]  # those that change grey images
_CHANNEL_STRENGTH = 0.4  # of gains, and of offsets in standard deviations


@torch.no_grad()
def color_crops(crops: UncoloredCrops, generator: torch.Generator) -> Crops:
    """Crops as SP sees them: coloured, then normalised.

    Args:
        crops: of the data loader.
        generator: private CPU generator; nothing else is drawn from.

    >>> scaling = torch.tensor([[255.0], [0.5], [0.25]]).expand(2, 3, 3)
    >>> pixels = torch.randint(256, (8, 3, 16, 16), dtype=torch.uint8)
    >>> crops = UncoloredCrops(torch.rand(4, 2, 4), pixels, scaling)
    >>> color_crops(crops, torch.Generator().manual_seed(0)).pixels.dtype
    torch.float32
    """
    of_crops = crops.normalization.float().repeat(len(crops.boxes), 1, 1)  # (kB, 3, C)
    white, mean, std = map(per_image, of_crops.unbind(1))
    with torch.autocast(crops.pixels.device.type, enabled=False):
        pixels = recolor(crops.pixels.float() / white[:, :1], generator)
    if crops.channels not in (None, tuple(range(pixels.shape[1]))):
        pixels = torch.stack([pixels[:, channel] for channel in crops.channels], dim=1)
    return Crops(crops.boxes, (pixels - mean) / std)


def recolor(images: Tensor, generator: torch.Generator) -> Tensor:
    """Images (N, C, H, W) with other colours, each with draws of its own.

    Args:
        images: float32; RGB and grey ones in [0, 1].
        generator: private CPU generator; nothing else is drawn from.
    """
    count, channels, height, width = images.shape
    jitter = {1: _GREY_JITTER, RGB_CHANNELS: _JITTER}.get(channels, ())
    # Numbers that no tensor holds: nothing is read, so a step can be traced on fake tensors.
    order = random.Random(generator.initial_seed()).sample(range(len(jitter)), len(jitter))
    size = (4 + (len(jitter) or 2 * channels), count)
    draws = torch.rand(size, generator=generator, device="cpu", dtype=torch.float32)
    changes = (2 * draws[4:] - 1) * (draws[0] < _JITTER_P)  # each in [-1, 1)
    kernel_size, least, largest = _blur_range(min(height, width))
    sigma = (least + (largest - least) * draws[2]) * (draws[1] < _BLUR_P)
    is_grey = draws[3] < _GREY_P
    packed = torch.cat([sigma[None], is_grey[None], changes])
    packed = packed.to(images.device, non_blocking=True)
    sigma, is_grey, changes = packed[0], packed[1], packed[2:]
    if jitter:
        for index in order:
            adjust, unchanged, reach = jitter[index]
            images = adjust(images, unchanged + reach * changes[index])
    else:
        gain, offset = (_CHANNEL_STRENGTH * changes.T).chunk(2, dim=1)
        images = jitter_channels(images, 1 + gain, offset)
    if channels == RGB_CHANNELS:
        images = torch.where(per_image(is_grey) > 0, rgb_to_grayscale(images), images)
    return gaussian_blur(images, kernel_size, sigma)


def _blur_range(side: int) -> tuple[int, float, float]:
    """Width of the filter, least and largest sigma in pixels, of crops with this shorter side."""
    # SimCLR blurs views of 224 px with a sigma of 0.1 to 2 px and a kernel of a tenth of the side.
    return max(3, side // 10 // 2 * 2 + 1), 0.1, max(0.2, 2.0 * side / 224)
