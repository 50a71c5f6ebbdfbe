"""Images of every kind that data sets hold, converted as the method's views show them."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision import transforms as v1
from torchvision.transforms import v2

from sp_plugin import ConfigError
from sp_plugin.crops.images import convert_image
from sp_plugin.crops.transform import ImageCrops, SPTransform

SETTINGS = {"crop_size": 8, "sharpness": "native"}
MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "HSV", "LAB", "I", "I;16", "F")


def make_colors(height: int = 24, width: int = 36) -> Image.Image:
    coarse = np.random.default_rng(0).integers(0, 255, (height // 4, width // 4, 3), np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.NEAREST)


def make_image(mode: str) -> Image.Image:
    colors = make_colors()
    grey = np.asarray(colors.convert("L"))
    if mode == "I;16":
        return Image.fromarray(grey.astype(np.uint16) * 257)
    if mode == "I":
        return Image.fromarray(grey.astype(np.int32) * 257)
    if mode == "LAB":
        return Image.frombytes("LAB", colors.size, colors.tobytes())
    return colors.convert("LA").convert("La") if mode == "La" else colors.convert(mode)


def with_exif(image: Image.Image) -> Image.Image:
    """The image with a tag that says to turn it, which neither PIL nor torchvision follows."""
    exif = image.getexif()
    exif[0x0112] = 6
    file = io.BytesIO()
    image.save(file, "PNG" if image.mode != "CMYK" else "TIFF", exif=exif)
    return Image.open(file)


def as_rgb(image: Image.Image) -> Tensor:
    """What the image looks like, (3, H, W) in [0, 1]."""
    if image.mode in ("I", "I;16"):
        grey = torch.from_numpy(np.asarray(image).astype(np.float32)) / 65535
        return grey.expand(3, -1, -1)
    if image.mode == "F":
        return torch.from_numpy(np.asarray(image) / 255).expand(3, -1, -1)
    return v2.functional.to_dtype(v2.functional.pil_to_tensor(image.convert("RGB")), scale=True)


def to_rgb_view(_: Any) -> Tensor:
    return torch.zeros(3, 16, 16)


def crops_of(image: Any, channels: int = 3) -> Tensor:
    transform = SPTransform(lambda _: torch.zeros(channels, 16, 16), SETTINGS)
    transform.crops.color_transform = lambda crop: crop
    transform.crops.flip = 0.0
    transform.crops.rng_key = lambda _: 1
    return transform(image)["sp"]["crops"]


@pytest.mark.parametrize("mode", MODES)
def test_crops_of_any_mode_look_alike(mode: str):
    image = make_image(mode)
    crops, expected = crops_of(image), crops_of(as_rgb(image))
    assert crops.shape == (4, 3, 8, 8)
    assert (crops - expected).abs().mean() < 0.04


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_exif_rotation_is_followed_by_no_one(mode: str):
    image = make_image(mode)
    turned = with_exif(image)
    assert turned.mode == mode and turned.size == image.size
    assert torch.equal(crops_of(turned), crops_of(image))


@pytest.mark.parametrize("mode", [*MODES, "La"])
@pytest.mark.parametrize("channels", [1, 3])
def test_default_colors_take_any_mode(mode: str, channels: int):
    views = torch.zeros(channels, 16, 16)
    normalize = v1.Normalize([0.5] * channels, [0.2] * channels)
    host = v1.Compose([v1.Lambda(lambda _: views), normalize])
    sample = SPTransform(host, SETTINGS)(make_image(mode))
    assert sample["sp"]["crops"].shape == (4, channels, 8, 8)
    assert sample["sp"]["crops"].isfinite().all()


def test_rgb_files_keep_their_pixels():
    image = make_image("RGB")
    assert convert_image(image, 3) is image
    pixels = v2.functional.pil_to_tensor(image)
    assert torch.equal(convert_image(pixels, 3), pixels / 255)
    assert torch.equal(convert_image(pixels / 255, 3), pixels / 255)


@pytest.mark.parametrize(("above", "scale"), [(1.001, 1), (1.2, 1), (1.5, 1), (2, 255), (255, 255)])
def test_range_of_floats_is_clear_of_one(above: float, scale: int):
    image = torch.rand(3, 8, 8)
    image[0, 0, 0] = above
    expected = image / scale
    assert torch.equal(convert_image(image, 3), expected.clamp(max=1))


ARRAYS = {
    "uint8": lambda rgb: rgb,
    "float32 to 255": lambda rgb: rgb.astype(np.float32),
    "float32 to 1": lambda rgb: rgb.astype(np.float32) / 255,
    "float64 to 1": lambda rgb: rgb / 255,
    "uint16": lambda rgb: rgb.astype(np.uint16) * 257,
    "alpha": lambda rgb: np.concatenate([rgb, rgb[..., :1]], axis=2),
    "mirrored memory": lambda rgb: rgb[:, ::-1].copy()[:, ::-1],
}


@pytest.mark.parametrize("convert", ARRAYS.values(), ids=ARRAYS)
def test_arrays_give_the_crops_of_the_image(convert):
    image = make_image("RGB")
    rgb = np.asarray(image)
    expected = crops_of(v2.functional.pil_to_tensor(image))
    assert (crops_of(convert(rgb)) - expected).abs().max() < 1e-2
    as_tensor = torch.from_numpy(np.ascontiguousarray(convert(rgb))).permute(2, 0, 1)
    assert (crops_of(as_tensor) - expected).abs().max() < 1e-2


def test_grey_arrays_become_rgb():
    grey = np.asarray(make_image("L"))
    expected = crops_of(make_image("L"))
    for array in (grey, grey[..., None], np.stack([grey, grey], axis=2)):
        assert (crops_of(array) - expected).abs().mean() < 0.04


def test_grey_views_get_grey_crops():
    expected = crops_of(make_image("L"), channels=1)
    assert expected.shape == (4, 1, 8, 8)
    for image in (make_image("RGB"), np.asarray(make_image("RGB"))):
        assert (crops_of(image, channels=1) - expected).abs().mean() < 0.04


def test_without_views_grey_stays_grey():
    crops = {mode: ImageCrops(SETTINGS)(make_image(mode))["crops"] for mode in ("1", "L", "P")}
    assert [each.shape[1] for each in crops.values()] == [1, 1, 3]


@pytest.mark.parametrize(
    ("image", "line"),
    [
        (torch.randn(3, 16, 16), r"floats in \[0, 1\] or \[0, 255\], got -.* normalised already"),
        (torch.full((3, 16, 16), 256.0), r"floats in \[0, 1\] or \[0, 255\], got 256 to 256"),
        (torch.full((3, 16, 16), torch.nan), r"got nan to nan"),
        (torch.zeros(3, 16, 16, dtype=torch.int64), "uint8, uint16 or floats, got torch.int64"),
        (torch.zeros(7, 16, 16), "an image of 7 channels for views of 3"),
        (Image.new("I", (16, 16), 70000), "mode I with values from 0 to 65535, got 70000 to"),
        (Image.new("F", (16, 16), -1), r"floats in \[0, 1\] or \[0, 255\], got -1 to -1"),
        (np.zeros((2, 3, 16, 16)), "takes PIL images"),
    ],
)
def test_unknown_numbers_are_refused(image: Any, line: str):
    with pytest.raises(ConfigError, match=f"^source: 'image' .*{line}") as caught:
        SPTransform(to_rgb_view, SETTINGS)(image)
    assert "\n" not in str(caught.value)
