"""Colour operations on a batch: each image as torchvision changes it alone, by its own factor."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as one

from sp_plugin.crops import color_ops
from sp_plugin.crops.colors import ChannelJitter

TOLERANCE = 1e-5
COUNT = 12


def batch(channels: int = 3, height: int = 24, width: int = 31) -> Tensor:
    """Noise, with what operations on colours trip over: flat areas, greys, ties, black, white."""
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(COUNT, channels, height, width, generator=generator)
    images[0], images[1], images[2] = 0, 1, 0.5
    images[3] = images[3, :1]
    images[4] = (images[4] * 2).round() / 2  # two or three channels are the largest
    images[5, :, :4] = 1
    return images


def factors(low: float, high: float) -> Tensor:
    return torch.linspace(low, high, COUNT)[torch.randperm(COUNT, generator=torch.manual_seed(0))]


def compare(ours: Tensor, single: Callable[..., Tensor], images: Tensor, *args: Tensor) -> None:
    expected = [
        single(image, *(arg.item() for arg in row))
        for image, *row in zip(images, *args, strict=True)
    ]
    assert not torch.equal(ours, images)
    torch.testing.assert_close(ours, torch.stack(expected), atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", ["adjust_brightness", "adjust_contrast"])
def test_light_is_torchvisions(name: str, channels: int):
    images, factor = batch(channels), factors(0.2, 1.8)
    compare(getattr(color_ops, name)(images, factor), getattr(one, name), images, factor)


@pytest.mark.parametrize(
    ("name", "low", "high"), [("adjust_saturation", 0, 2), ("adjust_hue", -0.5, 0.5)]
)
def test_color_is_torchvisions(name: str, low: float, high: float):
    images, factor = batch(), factors(low, high)
    compare(getattr(color_ops, name)(images, factor), getattr(one, name), images, factor)


def test_gray_is_torchvisions():
    images = batch()
    compare(color_ops.rgb_to_grayscale(images), one.rgb_to_grayscale, images)


@pytest.mark.parametrize("channels", [1, 3, 13])
@pytest.mark.parametrize("kernel_size", [3, 9, 21])
def test_blur_is_torchvisions(kernel_size: int, channels: int):
    images, sigma = batch(channels), factors(0.1, 2.0)

    def single(image: Tensor, sigma: float) -> Tensor:
        return one.gaussian_blur(image, [kernel_size] * 2, [sigma] * 2)

    compare(color_ops.gaussian_blur(images, kernel_size, sigma), single, images, sigma)


@pytest.mark.parametrize("name", ["adjust_brightness", "adjust_saturation", "adjust_hue"])
def test_bytes_differ_by_their_rounding(name: str):
    """torchvision rounds images of 8 bits after each operation; ours stay floats."""
    images = (batch() * 255).to(torch.uint8)
    factor = factors(-0.1, 0.1) + (name != "adjust_hue")
    ours = getattr(color_ops, name)(images / 255, factor) * 255
    rows = zip(images, factor.tolist(), strict=True)
    theirs = torch.stack([getattr(one, name)(image, by) for image, by in rows])
    assert (ours - theirs).abs().max() <= 2


def test_no_change_is_none():
    images, same = batch(), torch.ones(COUNT)
    for name in ("adjust_brightness", "adjust_contrast", "adjust_saturation"):
        assert torch.equal(getattr(color_ops, name)(images, same), images)
    assert torch.equal(color_ops.gaussian_blur(images, 5, 0 * same), images)
    torch.testing.assert_close(color_ops.adjust_hue(images, 0 * same), images, atol=1e-6, rtol=0)


def test_bands_change_as_by_channel_jitter():
    images = torch.rand(4, 6, 8, 8) * 900 - 80
    expected, changes = [], []
    for seed, image in enumerate(images):
        torch.manual_seed(seed)
        expected.append(ChannelJitter(0.4, p=1)(image))
        torch.manual_seed(seed)
        torch.rand(())  # whether the image is changed
        changes.append(0.4 * (2 * torch.rand(2, 6) - 1))
    gain, offset = torch.stack(changes, dim=1)
    ours = color_ops.jitter_channels(images, 1 + gain, offset)
    torch.testing.assert_close(ours, torch.stack(expected))
