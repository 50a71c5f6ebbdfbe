"""Colours of SP's crops by the number of channels of the images."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import default_collate

from sp_plugin import Crops
from sp_plugin.crops.batch_colors import color_crops
from sp_plugin.crops.colors import ChannelJitter
from sp_plugin.crops.transform import ImageCrops, SPTransform
from sp_plugin.isolation import make_generator

SETTINGS = {"crop_size": 16, "sharpness": "native"}


def crops_of(image: Any, colors: Any = None, channels: int | None = None) -> Tensor:
    """Crops as SP sees them, whose draws do not depend on the pixels."""
    crops = ImageCrops(SETTINGS, color_transform=colors, flip=0.0)
    crops._channels = channels
    batch = Crops.from_batch(default_collate([crops(image, key=3)]))
    return (batch if colors else color_crops(batch, make_generator(3))).pixels


def constant(channels: int, low: float = 0.2) -> Tensor:
    """Channels of different levels, without detail."""
    levels = torch.linspace(low, 0.6, channels)
    return levels[:, None, None].expand(channels, 48, 64).clone()


@pytest.mark.parametrize("channels", [2, 5, 6, 13])
def test_bands_change_one_by_one(channels: int):
    image = torch.rand(channels, 64, 64)
    plain, changed = crops_of(image, lambda crop: crop, channels), crops_of(image, None, channels)
    assert changed.shape == (4, channels, 16, 16)
    assert not torch.equal(plain, changed)
    ratios = changed.mean((2, 3)) / plain.mean((2, 3))
    assert ratios.std(dim=1).max() > 0.05  # each band by its own factor
    assert ratios.std(dim=0).max() > 0.05  # and in each crop


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e4, -80.0])
def test_jitter_holds_for_any_range(scale: float):
    image = torch.rand(13, 8, 8) * scale
    torch.manual_seed(0)
    changed = ChannelJitter(p=1)(image)
    torch.manual_seed(0)
    if scale > 0:
        same = ChannelJitter(p=1)(image / scale) * scale
        torch.testing.assert_close(changed, same, rtol=1e-4, atol=1e-4 * scale)
    gains = changed.std((1, 2)) / image.std((1, 2))
    assert gains.min() > 0.59 and gains.max() < 1.41 and gains.std() > 0.05


def test_jitter_leaves_some_images():
    images = [torch.rand(5, 4, 4) for _ in range(200)]
    changed = [not torch.equal(ChannelJitter()(image), image) for image in images]
    assert 130 < sum(changed) < 190


@pytest.mark.parametrize("kind", ["PIL", "tensor"])
def test_grey_gets_one_gain(kind: str):
    pixels = torch.full((48, 64), 100, dtype=torch.uint8)
    image = Image.fromarray(pixels.numpy()) if kind == "PIL" else pixels[None]
    levels = crops_of(image, None, 1)
    assert levels.shape == (4, 1, 16, 16)
    assert levels.mean((1, 2, 3)).std() > 0.01 and levels.flatten(1).std(1).max() < 0.01


@pytest.mark.parametrize("channels", [1, 3, 13])
def test_own_colors_take_their_place(channels: int):
    seen = []

    def invert(crop: Tensor) -> Tensor:
        seen.append(crop.shape)
        return 1 - crop

    transform = SPTransform(lambda image: image, SETTINGS, color_transform=invert)
    image = constant(channels)
    crops = transform(image)["sp"]["crops"]
    torch.testing.assert_close(crops.mean((2, 3)), 1 - image[:, 0, 0].expand(4, -1))
    assert seen == [(channels, 16, 16)] * 4


BANDS = {
    "float": (torch.rand(13, 40, 40) * 9000 - 80, 1.0),
    "uint8": (torch.randint(0, 255, (13, 40, 40), dtype=torch.uint8), 1 / 255),
    "array": (np.random.default_rng(0).normal(size=(40, 40, 13)).astype(np.float32), 1.0),
    "RGBA": (Image.fromarray(np.full((40, 40, 4), (10, 90, 170, 250), np.uint8)), 1 / 255),
    "uint16": (np.full((40, 40, 5), 5000, np.uint16), 1 / 65535),
    "two": (torch.rand(2, 40, 40) * -50, 1.0),
}


@pytest.mark.parametrize("name", BANDS)
def test_bands_keep_their_numbers(name: str):
    """Integers are scaled by their range; floats are in the unit that the views have."""
    image, scale = BANDS[name]
    pixels = torch.as_tensor(np.asarray(image).astype(np.float64))
    pixels = pixels if isinstance(image, Tensor) else pixels.permute(2, 0, 1)
    crops = crops_of(image, lambda crop: crop, len(pixels))
    assert crops.shape[:2] == (4, len(pixels)) and crops.is_floating_point()
    low, high = pixels.amin((1, 2)) * scale, pixels.amax((1, 2)) * scale
    assert (crops >= low[:, None, None] - 1e-3).all() and (
        crops <= high[:, None, None] + 1e-3
    ).all()
    level = crops.double().mean((0, 2, 3))
    torch.testing.assert_close(level, pixels.mean((1, 2)) * scale, rtol=0.3, atol=0.3)
