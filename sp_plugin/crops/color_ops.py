"""Colour operations on a batch of images, each image with a factor of its own; no loop over images.

Each equals torchvision's operation of that name on one image, up to rounding. Images are floats
(N, C, H, W), RGB and grey ones in [0, 1]; factors are (N,), on the images' device. Nothing is read
back from the device, and no shape depends on a value.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = [
    "adjust_brightness",
    "adjust_contrast",
    "adjust_hue",
    "adjust_saturation",
    "gaussian_blur",
    "jitter_channels",
    "per_image",
    "rgb_to_grayscale",
]

_LUMA = (0.2989, 0.587, 0.114)  # of RGB; torchvision's


def per_image(factor: Tensor) -> Tensor:
    """A factor (N,) as (N, 1, 1, 1); one of each channel (N, C) as (N, C, 1, 1)."""
    return factor.reshape(len(factor), -1, 1, 1)


def adjust_brightness(images: Tensor, factor: Tensor) -> Tensor:
    """Images (N, C, H, W) times their factors, clipped to [0, 1]."""
    return (images * per_image(factor)).clamp_(0, 1)


def adjust_contrast(images: Tensor, factor: Tensor) -> Tensor:
    """RGB or grey images, with their distance from their mean grey level times their factors."""
    grey = rgb_to_grayscale(images) if images.shape[1] > 1 else images
    return _blend(images, grey.mean(dim=(1, 2, 3), keepdim=True), factor)


def adjust_saturation(images: Tensor, factor: Tensor) -> Tensor:
    """RGB images (N, 3, H, W), with their distance from grey times their factors."""
    return _blend(images, rgb_to_grayscale(images), factor)


def adjust_hue(images: Tensor, factor: Tensor) -> Tensor:
    """RGB images (N, 3, H, W) with their hues turned by their factors, in turns from -0.5 to 0.5.

    In HSV a turn of the hue keeps the largest of the three channels and their range, so neither
    saturation nor value is computed.
    """
    red, green, blue = images.unbind(1)
    high = torch.maximum(red, green).clamp_min_(blue)
    low = torch.minimum(red, green).clamp_max_(blue)
    span = high - low
    # In sixths of a turn, from red over green to blue.
    is_red, is_green = red == high, green == high
    hue = torch.where(is_red, green - blue, torch.where(is_green, blue - red, red - green))
    hue = hue.div_(span.clamp_min(torch.finfo(span.dtype).tiny)).add_(6 * factor[:, None, None])
    hue = hue.add_(torch.where(is_green, 2.0, 4.0).masked_fill_(is_red, 0.0))
    hue = hue.sub_((hue / 6).floor_().mul_(6))
    # Share of the range that each channel is above the lowest one.
    shares = torch.stack(
        [
            (hue - 3).abs_().sub_(1),
            (hue - 2).abs_().neg_().add_(2),
            (hue - 4).abs_().neg_().add_(2),
        ],
        dim=1,
    )
    return shares.clamp_(0, 1).mul_(span.unsqueeze(1)).add_(low.unsqueeze(1))


def rgb_to_grayscale(images: Tensor) -> Tensor:
    """Grey level (N, 1, H, W) of RGB images (N, 3, H, W)."""
    red, green, blue = images.unbind(1)
    grey = red * _LUMA[0]
    return grey.add_(green, alpha=_LUMA[1]).add_(blue, alpha=_LUMA[2]).unsqueeze(1)


def gaussian_blur(images: Tensor, kernel_size: int, sigma: Tensor) -> Tensor:
    """Images of any channels, each blurred with its own ``sigma`` (N,) in pixels; edges reflect.

    Args:
        images: (N, C, H, W).
        kernel_size: odd number of pixels that the filter is wide, below 2H and 2W.
        sigma: (N,); 0 leaves an image as it is.

    >>> image = torch.rand(2, 3, 8, 8)
    >>> blurred = gaussian_blur(image, 3, torch.tensor([0.0, 1.0]))
    >>> torch.equal(blurred[0], image[0]), bool(blurred[1].std() < image[1].std())
    (True, True)
    """
    count, channels, *_ = images.shape
    margin = kernel_size // 2
    offsets = torch.arange(-margin, margin + 1, device=images.device)
    # A tiny sigma in the place of 0 has all its weight on the pixel itself.
    exponents = (offsets / sigma.clamp_min(1e-6)[:, None]).square().mul_(-0.5)
    kernels = exponents.softmax(dim=1).to(images.dtype).repeat_interleave(channels, dim=0)
    # Every channel of every image is a group of one convolution, which is separable.
    planes = F.pad(images, (margin,) * 4, mode="reflect").flatten(0, 1).unsqueeze(0)
    groups = count * channels
    planes = F.conv2d(planes, kernels[:, None, None, :], groups=groups)
    planes = F.conv2d(planes, kernels[:, None, :, None], groups=groups)
    return planes.reshape(images.shape)


def jitter_channels(images: Tensor, gain: Tensor, offset: Tensor) -> Tensor:
    """Images of any range, each channel with its own gain and offset, both (N, C).

    The offset is in the channel's own standard deviation, and nothing is clipped; see
    `sp_plugin.crops.colors.ChannelJitter`.
    """
    std = images.std(dim=(2, 3), keepdim=True, correction=0)
    return images * per_image(gain) + per_image(offset) * std


def _blend(images: Tensor, others: Tensor, ratio: Tensor) -> Tensor:
    ratio = per_image(ratio)
    return (images * ratio).add_(others * (1 - ratio)).clamp_(0, 1)
