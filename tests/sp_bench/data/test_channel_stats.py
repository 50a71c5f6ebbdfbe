"""Statistics of channels, measured on the images that are given; and three channels as RGB."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from PIL import Image
from sp_bench.data import DataError
from sp_bench.data.channel_stats import IMAGENET, ChannelStats, measure_stats, to_unit
from sp_bench.data.dataset import GREY, ImageDataset, ImageKind
from sp_bench.data.rgb_display import RGBDisplay


class ListedImages(ImageDataset):
    """Images from a list."""

    def __init__(self, images: list[Any], kind: ImageKind) -> None:
        self.images, self.kind = images, kind
        self.labels = torch.zeros(len(images), dtype=torch.int64)
        self.classes = ("image",)

    def image(self, index: int) -> Any:
        return self.images[index]


@pytest.mark.parametrize("channels", [1, 4, 13])
def test_measured_images_become_standard(channels):
    scale = torch.arange(1, channels + 1).view(-1, 1, 1)
    pixels = torch.randn(20, channels, 6, 8, generator=torch.Generator().manual_seed(0))
    images = -10 + scale * pixels
    stats = measure_stats(ListedImages(list(images), ImageKind(channels, "float")), channels)
    normalized = stats.normalize(images)
    assert stats.channels == channels
    assert normalized.mean(dim=(0, 2, 3)).abs().max() < 1e-4
    assert (normalized.std(dim=(0, 2, 3), correction=0) - 1).abs().max() < 1e-4


def test_constant_channel_has_std_1():
    images = [torch.stack([torch.rand(5, 5), torch.full((5, 5), 0.3)]) for _ in range(3)]
    stats = measure_stats(ListedImages(images, ImageKind(2, "float")), 2)
    assert stats.std[1] == 1 and stats.std[0] < 1 and abs(stats.mean[1] - 0.3) < 1e-6


def test_grey_is_measured_as_converted():
    images = ListedImages([Image.new("L", (4, 4), value) for value in (0, 255)], GREY)
    assert measure_stats(images, 1) == ChannelStats((0.5,), (0.5,))
    assert measure_stats(images, 3) == ChannelStats((0.5,) * 3, (0.5,) * 3)


def test_many_images_are_thinned(monkeypatch):
    monkeypatch.setattr("sp_bench.data.channel_stats._MAX_IMAGES", 3)
    images = ListedImages([torch.full((1, 2, 2), float(i)) for i in range(5)], GREY)
    read: list[int] = []
    monkeypatch.setattr(images, "image", lambda i: read.append(i) or images.images[i])
    assert measure_stats(images, 1).mean == (2.0,)
    assert read == [0, 2, 4]


def test_no_images_are_refused():
    with pytest.raises(DataError, match="no training images"):
        measure_stats(ListedImages([], GREY), 1)


def test_imagenet_stats_are_torchvisions():
    from torchvision.models import ResNet18_Weights

    preset = ResNet18_Weights.DEFAULT.transforms()
    assert (list(IMAGENET.mean), list(IMAGENET.std)) == (preset.mean, preset.std)


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 12, 13, 20])
def test_shown_channels_are_those_chosen(channels):
    images = torch.randint(0, 256, (2, channels, 6, 5), dtype=torch.uint8)
    triple = (channels - 1, 0, channels // 2)
    shown = RGBDisplay.fit(images, triple)(images)
    assert torch.equal(shown, images[:, list(triple)])
    default = RGBDisplay.fit(images)
    assert max(default.triple) < channels
    assert default.triple == ((3, 2, 1) if channels in (12, 13) else default.triple)


def test_rgb_is_shown_as_it_is():
    images = torch.randint(0, 256, (2, 3, 6, 5), dtype=torch.uint8)
    display = RGBDisplay.fit(images)
    assert torch.equal(display.to_uint8(images), images)
    assert torch.equal(display(to_unit(images)), to_unit(images))


def test_one_range_for_all_images():
    images = torch.stack([torch.full((4, 9, 9), -30.0), torch.full((4, 9, 9), 50.0)])
    dark, light = RGBDisplay.fit(images).to_uint8(images)
    assert int(dark.max()) == 0 and int(light.min()) == 255
