"""Images of data sets: PIL images, and tensors (C, H, W) of uint8 or float.

One interface for both. PIL is not imported: only the methods of its images are called.
"""

from __future__ import annotations

import math
import zlib
from typing import Any

import torch
from torch import Tensor

from sp_plugin.crops.resize import crop_resize
from sp_plugin.validation import ConfigError

__all__ = ["crop_image", "image_hash", "image_size", "is_image"]

_BILINEAR, _NEAREST = 2, 0  # Pillow's numbers for its filters


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


def crop_image(image: Any, box: Tensor, size: int, resolution: Tensor | None = None) -> Any:
    """Cut one box out of an image and resize it to ``size`` x ``size``, antialiased.

    Args:
        image: a PIL image, or a tensor (C, H, W).
        box: (4,), (cx, cy, w, h) in pixels, inside the image.
        size: side of the crop in pixels.
        resolution: (2,) or None, whole pixels of the intermediate resize, as for `crop_resize`.

    Returns:
        A PIL image, or a tensor (C, size, size) of float, in the image's range, [0, 1] for uint8.

    >>> crop_image(torch.zeros(3, 20, 30), torch.tensor([15.0, 10.0, 8.0, 8.0]), 4).shape
    torch.Size([3, 4, 4])
    """
    width, height = image_size(image)
    if isinstance(image, Tensor):
        pixels = image if image.is_floating_point() else image / 255
        fractions = box / torch.tensor([width, height, width, height])
        grid = None if resolution is None else resolution[None]
        return crop_resize(pixels[None], fractions[None], size, grid)[0]
    x, y, w, h = box.tolist()
    # Pillow's filter reads pixels outside the box: first cut off those that the box does not cover.
    left, top = max(0, math.floor(x - w / 2)), max(0, math.floor(y - h / 2))
    right, bottom = min(width, math.ceil(x + w / 2)), min(height, math.ceil(y + h / 2))
    edges = (
        max(0.0, x - w / 2 - left), max(0.0, y - h / 2 - top),
        min(right, x + w / 2) - left, min(bottom, y + h / 2) - top,
    )  # fmt: skip
    inner = image.crop((left, top, right, bottom))
    if resolution is None:
        return inner.resize((size, size), _BILINEAR, box=edges)
    columns, rows = (int(n) for n in resolution)
    return inner.resize((columns, rows), _BILINEAR, box=edges).resize((size, size), _BILINEAR)


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
