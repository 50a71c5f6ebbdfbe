"""Image files: reading, resizing, and finding unreadable ones."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageOps
from torch import Tensor
from torchvision.transforms.v2 import functional as image_ops

from sp_bench.data.array_files import is_array_file, read_array
from sp_bench.data.dataset import GREY, RGB, DataError, ImageKind
from sp_bench.data.image_kind import convert_channels
from sp_plugin.crops.images import convert_image

# PIL's readers of these formats scale or keep every integer image in 16 bits, also in mode I.
_FORMATS_OF_16_BITS = ("PNG", "PPM", "JPEG2000")
MAX_UNREADABLE = 0.01  # fraction of all files; more indicates a broken copy


def read_image(path: str | Path, kind: ImageKind, layout: str | None = None) -> Any:
    """Read an image file of a data set.

    Args:
        path: image file.
        kind: kind of the data set's images.
        layout: layout of arrays, as for `channel_axis`.

    Returns:
        A PIL image in RGB or grey (mode L), or a tensor (C, H, W); as the items of `ImageDataset`.

    Raises:
        DataError: the file has another kind, or as for `open_image` and `read_array`.
        OSError, ValueError: the file is missing or damaged.
    """
    if not is_array_file(path):
        return convert_channels(open_image(path), kind.channels)
    return convert_channels(read_array_image(path, layout), kind.channels)


def read_array_image(path: str | Path, layout: str | None = None) -> Any:
    """Image in a file of an array: a PIL image if it is grey or RGB of 8 bits, else a tensor.

    Arguments and errors are those of `read_array`.
    """
    pixels = read_array(path, layout)
    is_colors = pixels.dtype == torch.uint8 and len(pixels) in (GREY.channels, RGB.channels)
    return image_ops.to_pil_image(pixels) if is_colors else pixels


def open_image(path: str | Path) -> Image.Image:
    """Read an image file in RGB, upright by its EXIF orientation. 16 bits are scaled to 8.

    Args:
        path: file that PIL can read.

    Raises:
        OSError: the file is missing, is no image, or is truncated.
        DataError: its mode has no known range (floats, and integers of 32 bits) or no colors.
        Image.DecompressionBombError: it has more pixels than PIL takes.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     Image.new("L", (4, 3)).save(f"{folder}/grey.png")
    ...     open_image(f"{folder}/grey.png").mode
    'RGB'
    """
    # By its path, PIL maps a file into memory, and a rotated TIFF then has its pixels mixed up.
    with Path(path).open("rb") as file, Image.open(file) as image:
        if image.mode == "F" or (image.mode == "I" and image.format not in _FORMATS_OF_16_BITS):
            kind = "float" if image.mode == "F" else "32-bit integer"
            raise DataError(
                f"it is a {kind} image (mode {image.mode}) of unknown range; takes 8 or 16 bits"
            )
        return to_rgb(ImageOps.exif_transpose(image))


def to_rgb(image: Image.Image) -> Image.Image:
    """Image of any PIL mode in RGB of 8 bits.

    Raises:
        DataError: the mode has no colors.

    >>> to_rgb(Image.new("I;16", (1, 1), 32896)).getpixel((0, 0))
    (128, 128, 128)
    """
    try:
        pixels = convert_image(image, 3)
    except ValueError as error:
        raise DataError(f"mode {image.mode} cannot be converted to RGB: {error}") from error
    if isinstance(pixels, Tensor):  # of 16 bits, in [0, 1]
        pixels = image_ops.to_pil_image((pixels * 255).round().to(torch.uint8))
    return pixels


def resize_and_center_crop(image: Any, side: int) -> Any:
    """Resize the shorter side to ``side`` pixels, antialiased, and crop the center square.

    Args:
        image: PIL image, or tensor (..., C, H, W).
        side: side of the square in pixels.

    >>> resize_and_center_crop(Image.new("RGB", (30, 20)), 10).size
    (10, 10)
    """
    return image_ops.center_crop(image_ops.resize(image, [side]), [side])


def find_unreadable(paths: Sequence[str], layout: str | None = None) -> list[int]:
    """Increasing indices of the files that cannot be decoded; each is tried once, in threads.

    JPEGs are decoded at an eighth of their size: this meets the same errors as a full decoding in
    about half the time. Reading the header alone would miss truncated files.

    Args:
        paths: image files.
        layout: layout of arrays, as for `channel_axis`.

    Raises:
        DataError: more than 1 % of the files are unreadable.

    >>> find_unreadable([])
    []
    """
    with ThreadPoolExecutor() as pool:
        problems = list(pool.map(find_problem, paths, itertools.repeat(layout)))
    unreadable = [index for index, problem in enumerate(problems) if problem]
    if len(unreadable) > MAX_UNREADABLE * len(paths):
        first = unreadable[0]
        raise DataError(
            f"{len(unreadable)} of {len(paths)} images cannot be read, more than "
            f"{MAX_UNREADABLE:.0%}; the first is {str(paths[first])!r}: {problems[first]}"
        )
    return unreadable


def find_problem(path: str | Path, layout: str | None = None) -> str:
    """Why a file cannot be used as an image, and the remedy; empty if it can."""
    # PIL's decoders raise errors of many types on damaged files (OSError, SyntaxError, ValueError,
    # struct.error, zlib.error ...).
    try:
        if is_array_file(path):
            read_array(path, layout)
            return ""
        with Image.open(path) as image:
            image.draft("RGB", (1, 1))
            image.load()
            if image.mode == "LAB":
                to_rgb(image)
    except DataError as error:
        return str(error)
    except Image.DecompressionBombError as error:
        return f"it is too large ({error}); make it smaller, or remove it"
    except Exception as error:
        reason = str(error).replace(repr(str(path)), "").strip(" :") or type(error).__name__
        return f"{' '.join(reason.split())}; copy it again or remove it"
    return ""
