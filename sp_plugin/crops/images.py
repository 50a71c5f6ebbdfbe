"""Images of data sets: PIL images, arrays (H, W, C), and tensors (C, H, W), of integers or floats.

One interface for all. PIL and NumPy are not imported: only methods of their objects are called.
"""

from __future__ import annotations

import functools
import math
import zlib
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from sp_plugin.crops.resize import crop_resize
from sp_plugin.sizes import Size, height_and_width
from sp_plugin.structures import RGB_CHANNELS
from sp_plugin.validation import ConfigError

__all__ = [
    "array_to_tensor",
    "convert_image",
    "count_channels",
    "crop_image",
    "has_8_bits",
    "hflip_image",
    "image_hash",
    "image_size",
    "is_image",
    "stack_images",
]

_BILINEAR, _NEAREST = 2, 0  # Pillow's numbers for its filters
_FLIP_LEFT_RIGHT = 0  # and for its method of a transpose
_DEEP_MODES = ("I;16", "I;16L", "I;16B", "I;16N", "I", "F")  # Pillow's modes of more than 8 bits
_MAX_OF_DTYPE = {torch.bool: 1, torch.uint8: 255, torch.uint16: 65535}
_MAX_OVERSHOOT = 1.5  # floats of [0, 1] that a bicubic filter has resized may be a little above 1
_LUMA = (0.299, 0.587, 0.114)  # of RGB, as in ITU-R 601-2, which Pillow uses


def is_image(item: Any) -> bool:
    """Whether an item is one image: a PIL image, or a tensor (C, H, W).

    >>> is_image(torch.zeros(3, 8, 8)), is_image(torch.zeros(2, 3, 8, 8)), is_image([])
    (True, False, False)
    """
    return item.ndim == 3 if isinstance(item, Tensor) else _is_pil(item)


def _is_pil(item: Any) -> bool:
    return callable(getattr(item, "resize", None)) and hasattr(item, "getbands")


def image_size(image: Any) -> tuple[int, int]:
    """Width and height in pixels.

    >>> image_size(torch.zeros(3, 20, 30))
    (30, 20)
    """
    if isinstance(image, Tensor) and image.ndim == 3:
        return int(image.shape[2]), int(image.shape[1])
    if _is_pil(image):
        return int(image.size[0]), int(image.size[1])
    form = f"of shape {tuple(image.shape)}" if hasattr(image, "shape") else ""
    raise ConfigError(
        f"source: 'image' takes PIL images and tensors (C, H, W), got {type(image).__name__} {form}"
    )


def count_channels(image: Any) -> int:
    """Number of channels of a PIL image or a tensor (C, H, W).

    >>> count_channels(torch.zeros(13, 20, 30))
    13
    """
    return len(image) if isinstance(image, Tensor) else len(image.getbands())


def has_8_bits(image: Any) -> bool:
    """Whether a PIL image or a tensor holds 8 bits of each channel.

    >>> has_8_bits(torch.zeros(3, 2, 2, dtype=torch.uint8)), has_8_bits(torch.zeros(3, 2, 2))
    (True, False)
    """
    return (
        image.dtype == torch.uint8 if isinstance(image, Tensor) else image.mode not in _DEEP_MODES
    )


def array_to_tensor(image: Any) -> Any:
    """An array (H, W) or (H, W, C) as a tensor (C, H, W); anything else as it is.

    >>> import numpy as np
    >>> array_to_tensor(np.zeros((20, 30, 3))).shape
    torch.Size([3, 20, 30])
    """
    # A PIL image first: it has this attribute too, and reading it copies all pixels.
    if isinstance(image, Tensor) or _is_pil(image) or not hasattr(image, "__array_interface__"):
        return image
    if len(image.shape) not in (2, 3):
        return image
    # A copy: an array may be read-only, or have negative strides.
    pixels = torch.as_tensor(image.copy())
    return pixels.unsqueeze(0) if pixels.ndim == 2 else pixels.permute(2, 0, 1)


def convert_image(image: Any, channels: int | None = None) -> Any:
    """The image as a method sees it whose views have ``channels`` channels.

    Args:
        image: a PIL image of any mode, or a tensor (C, H, W). Floating point numbers are in [0, 1],
            where up to 1.5 counts as 1, or, where one is above that, in [0, 255]; those of other
            images than RGB and grey ones may be any, and stay as they are.
        channels: 3: grey, palette and other modes become RGB, and alpha is dropped; 1: grey; other
            numbers: the image has as many. None: grey stays grey, images of 2 and 4 channels lose
            their alpha, palettes and other modes become RGB.

    Returns:
        A PIL image of mode L or RGB, or a tensor (C, H, W) of float, of RGB and grey in [0, 1].

    Raises:
        ConfigError: numbers of an unknown range, or channels that cannot be converted.

    >>> convert_image(torch.full((1, 2, 2), 255, dtype=torch.uint8), 3)[:, 0, 0]
    tensor([1., 1., 1.])
    """
    image_size(image)  # raises where it is no image
    if _is_multiband(count_channels(image), channels):
        image = image if isinstance(image, Tensor) else stack_images([image])[0]
        return image if image.is_floating_point() else _to_unit_range(image)
    if not isinstance(image, Tensor):
        if image.mode not in _DEEP_MODES:
            if image.mode == "La":  # Pillow converts grey with premultiplied alpha to LA only
                image = image.convert("LA")
            is_grey = channels == 1 or (channels is None and image.mode in ("1", "L"))
            if image.mode != "RGB" and not (is_grey and image.mode in ("1", "L", "LA")):
                image = image.convert("RGB")  # the one mode that Pillow converts all others to
            return image.convert("L") if is_grey and image.mode != "L" else image
        image = _deep_to_tensor(image)
    return _with_channels(_to_unit_range(image), channels)


def _is_multiband(own: int, channels: int | None) -> bool:
    """Whether an image has other channels than grey, RGB and alpha, and the views show them."""
    if channels is None:
        return own > 4
    return own == channels and channels not in (1, RGB_CHANNELS)


def _deep_to_tensor(image: Any) -> Tensor:
    """Pixels (1, H, W) of a PIL image of more than 8 bits."""
    is_int = image.mode != "F"
    # Pillow has every integer mode as 32 bits in its mode I, with no loss.
    data = image.convert("I").tobytes() if is_int else image.tobytes()
    dtype = torch.int32 if is_int else torch.float32
    width, height = image.size
    pixels = torch.frombuffer(bytearray(data), dtype=dtype).reshape(1, height, width)
    if not is_int:
        return pixels
    low, high = int(pixels.min()), int(pixels.max())
    if low < 0 or high > 65535:
        raise ConfigError(
            f"source: 'image' takes images of mode {image.mode} with values from 0 to 65535, "
            f"got {low} to {high}"
        )
    return pixels / 65535


def _to_unit_range(image: Tensor) -> Tensor:
    if not image.is_floating_point():
        if image.dtype not in _MAX_OF_DTYPE:
            raise ConfigError(
                f"source: 'image' takes images of uint8, uint16 or floats, got {image.dtype}"
            )
        return image / _MAX_OF_DTYPE[image.dtype]
    low, high = float(image.min()), float(image.max())
    if not (low >= 0 and high <= 255):
        raise ConfigError(
            "source: 'image' takes images of floats in [0, 1] or [0, 255], "
            f"got {low:g} to {high:g}; are they normalised already? Then take 'view'"
        )
    if high > _MAX_OVERSHOOT:
        return image / 255
    return image.clamp(max=1) if high > 1 else image


def _with_channels(image: Tensor, channels: int | None) -> Tensor:
    own = len(image)
    if own == channels or (channels is None and own in (1, 3)):
        return image
    if not 1 <= own <= 4 or channels not in (None, 1, 3):
        raise ConfigError(f"source: 'image' got an image of {own} channels for views of {channels}")
    color = image[:1] if own <= 2 else image[:3]  # without alpha
    if channels == 1 and own > 2:
        color = torch.tensordot(image.new_tensor(_LUMA), color, 1)[None]
    return color.expand(3, -1, -1) if channels == 3 else color


def crop_image(
    image: Any, box: Sequence[float], size: Size, resolution: Sequence[int] | None = None
) -> Any:
    """Cut one box out of an image and resize it to ``size``, antialiased.

    Args:
        image: a PIL image, or a tensor (C, H, W).
        box: (cx, cy, w, h) in pixels, inside the image.
        size: of the crop in pixels: h = w of a square, or (h, w).
        resolution: columns and rows of the intermediate resize, as for `crop_resize`, or None.

    Returns:
        A PIL image, or a tensor (C, h, w) of float, in the image's range, [0, 1] for uint8.

    >>> crop_image(torch.zeros(3, 20, 30), (15.0, 10.0, 8.0, 8.0), 4).shape
    torch.Size([3, 4, 4])
    """
    width, height = image_size(image)
    if isinstance(image, Tensor):
        pixels = image if image.is_floating_point() else image / 255
        tensor = functools.partial(torch.tensor, device=image.device)
        fractions = tensor([box]) / tensor([width, height, width, height])
        grid = None if resolution is None else tensor([resolution])
        return crop_resize(pixels[None], fractions, size, grid)[0]
    x, y, w, h = box
    # Pillow's filter reads pixels outside the box: first cut off those that the box does not cover.
    left, top = max(0, math.floor(x - w / 2)), max(0, math.floor(y - h / 2))
    right, bottom = min(width, math.ceil(x + w / 2)), min(height, math.ceil(y + h / 2))
    edges = (
        max(0.0, x - w / 2 - left), max(0.0, y - h / 2 - top),
        min(right, x + w / 2) - left, min(bottom, y + h / 2) - top,
    )  # fmt: skip
    inner = image.crop((left, top, right, bottom))
    out_size = height_and_width(size)[::-1]
    if resolution is None:
        return inner.resize(out_size, _BILINEAR, box=edges)
    return inner.resize(tuple(resolution), _BILINEAR, box=edges).resize(out_size, _BILINEAR)


def hflip_image(image: Any) -> Any:
    """A PIL image or a tensor (C, H, W), mirrored left to right.

    >>> hflip_image(torch.tensor([[[1, 2]]])).tolist()
    [[[2, 1]]]
    """
    return image.flip(-1) if isinstance(image, Tensor) else image.transpose(_FLIP_LEFT_RIGHT)


def stack_images(images: Sequence[Any]) -> Tensor:
    """Images of one size as a tensor (n, C, H, W); PIL images of 8 bits become uint8.

    >>> stack_images([torch.zeros(3, 8, 8)] * 2).shape
    torch.Size([2, 3, 8, 8])
    """
    if isinstance(images[0], Tensor):
        return torch.stack(list(images))
    width, height = images[0].size
    data = bytearray(b"".join(image.tobytes() for image in images))
    pixels = torch.frombuffer(data, dtype=torch.uint8)
    return pixels.reshape(len(images), height, width, -1).permute(0, 3, 1, 2)


def image_hash(image: Any) -> int:
    """Hash of a few pixels, which distinguishes most images.

    >>> image_hash(torch.zeros(3, 8, 8)) == image_hash(torch.ones(3, 8, 8))
    False
    """
    width, height = image_size(image)
    if isinstance(image, Tensor):
        pixels = image[:, :: max(1, height // 4), :: max(1, width // 4)].double()
        return zlib.crc32(repr(pixels.flatten().tolist()).encode())
    return zlib.crc32(image.resize((4, 4), _NEAREST).tobytes())
