"""The kind of a data set's images, from the headers of its files; grey and RGB as each other."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from PIL import ExifTags, Image
from torch import Tensor

from sp_bench.data.array_files import array_header, is_array_file
from sp_bench.data.dataset import GREY, RGB, DataError, ImageKind
from sp_plugin.crops.images import convert_image, count_channels

_GREY_MODES = ("1", "L", "LA", "La", "I", "I;16", "I;16L", "I;16B", "I;16N")  # Pillow's


def read_header(path: str | Path, layout: str | None = None) -> tuple[ImageKind, tuple[int, int]]:
    """Kind, width and height of the image in a file, from its header.

    Args:
        path: image file of any format.
        layout: layout of arrays, ``CHW`` or ``HWC``; None: see `channel_axis`.

    Raises:
        OSError, ValueError: the file is damaged or no image.
    """
    if is_array_file(path):
        return array_header(path, layout)
    with Image.open(path) as image:
        return GREY if image.mode in _GREY_MODES else RGB, image.size


def read_orientation(path: str | Path) -> int:
    """EXIF orientation of an image file: 1 is upright, as of arrays and files without the tag.

    Raises:
        OSError, ValueError: the file is damaged or no image.
    """
    if is_array_file(path):
        return 1
    with Image.open(path) as image:
        # PNG's own getexif decodes all pixels, as the tag might follow them.
        orientation: int = Image.Image.getexif(image).get(ExifTags.Base.Orientation, 1)
        return orientation


def common_kind(paths: Iterable[str], layout: str | None = None) -> ImageKind:
    """The kind of all images of a data set: RGB if some are RGB and the others grey.

    Args:
        paths: readable image files, at least one.
        layout: as for `read_header`.

    Raises:
        DataError: a file has another number of channels, or another dtype, than the first.
    """
    first: tuple[ImageKind, str] | None = None
    for path in paths:
        try:
            kind, _ = read_header(path, layout)
        except (OSError, ValueError) as error:
            raise DataError(f"{path!r}: cannot be read: {error}") from error
        if first is None or (first[0] == GREY and kind == RGB):
            first = kind, path
        elif kind != first[0] and (kind, first[0]) != (GREY, RGB):
            raise DataError(
                f"images of different kinds: {first[1]!r} has {first[0]}, {path!r} has {kind}; "
                "takes the same in all files"
            )
    return first[0] if first else RGB


def convert_channels(image: Any, channels: int) -> Any:
    """The image with ``channels`` channels: grey and RGB are converted, all others have them.

    Args:
        image: PIL image of mode L or RGB, or tensor (C, H, W).
        channels: number of channels.

    Raises:
        DataError: the image has another number of channels.

    >>> convert_channels(Image.new("L", (4, 3)), 3).mode
    'RGB'
    """
    if not isinstance(image, Tensor) and channels in (GREY.channels, RGB.channels):
        return convert_image(image, channels)
    count = count_channels(image)
    if count != channels:
        raise DataError(f"an image of {count} channels, for a backbone of {channels}")
    return image
