"""Image files: listing, opening, resizing, and finding unreadable ones."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from PIL import Image, ImageOps
from torchvision.datasets.folder import IMG_EXTENSIONS
from torchvision.transforms.v2 import functional as image_ops

from sp_bench.data.dataset import DataError

MAX_UNREADABLE = 0.01  # fraction of all files; more indicates a broken copy


def open_image(path: str | Path) -> Image.Image:
    """Read an image file in RGB, upright by its EXIF orientation.

    Args:
        path: file that PIL can read.

    Raises:
        OSError: the file is missing, is no image, or is truncated.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     Image.new("L", (4, 3)).save(f"{folder}/grey.png")
    ...     open_image(f"{folder}/grey.png").mode
    'RGB'
    """
    with Image.open(path) as image:
        return ImageOps.exif_transpose(image).convert("RGB")


def resize_and_center_crop(image: Any, side: int) -> Any:
    """Resize the shorter side to ``side`` pixels, antialiased, and crop the center square.

    Args:
        image: PIL image, or tensor (..., C, H, W).
        side: side of the square in pixels.

    >>> resize_and_center_crop(Image.new("RGB", (30, 20)), 10).size
    (10, 10)
    """
    return image_ops.center_crop(image_ops.resize(image, [side]), [side])


def is_image_name(name: str) -> bool:
    """Whether a file name has the ending of an image; hidden files are excluded."""
    return not name.startswith(".") and name.lower().endswith(IMG_EXTENSIONS)


def list_images(folder: Path) -> list[Path]:
    """Sorted paths of the image files in a folder and its subfolders.

    Args:
        folder: folder to search.

    Raises:
        DataError: the folder is missing, or contains no image files.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     Image.new("RGB", (4, 3)).save(f"{folder}/sea.png")
    ...     [path.name for path in list_images(Path(folder))]
    ['sea.png']
    """
    folder = Path(folder).expanduser()
    if not folder.exists():
        raise DataError.of(folder, "the folder does not exist")
    if not folder.is_dir():
        raise DataError.of(folder, "this is a file; it takes a folder of images")
    paths = find_files(folder)
    if not paths:
        endings = ", ".join(sorted(IMG_EXTENSIONS))
        raise DataError.of(folder, f"no images in it; it takes {endings}")
    return [Path(path) for path in paths]


def find_files(folder: Path) -> list[str]:
    """Sorted image files in a folder and its subfolders, possibly none."""
    walk = os.walk(folder, followlinks=True)
    paths = [Path(parent, name) for parent, _, names in walk for name in names]
    return [str(path) for path in sorted(paths) if is_image_name(path.name)]


def find_unreadable(paths: Sequence[str]) -> list[int]:
    """Increasing indices of the files that cannot be decoded; each is tried once, in threads.

    JPEGs are decoded at an eighth of their size: this meets the same errors as a full decoding in
    about half the time. Reading the header alone would miss truncated files.

    Args:
        paths: image files.

    Raises:
        DataError: more than 1 % of the files are unreadable.

    >>> find_unreadable([])
    []
    """
    with ThreadPoolExecutor() as pool:
        readable = list(pool.map(_is_readable, paths))
    unreadable = [index for index, good in enumerate(readable) if not good]
    if len(unreadable) > MAX_UNREADABLE * len(paths):
        raise DataError(
            f"{len(unreadable)} of {len(paths)} images cannot be read, more than "
            f"{MAX_UNREADABLE:.0%}; the first is {str(paths[unreadable[0]])!r}: "
            "copy them again or remove them"
        )
    return unreadable


def _is_readable(path: str) -> bool:
    # PIL's decoders raise errors of many types on damaged files (OSError, SyntaxError, ValueError,
    # struct.error, zlib.error ...); all mean the same here.
    try:
        with Image.open(path) as image:
            image.draft("RGB", (1, 1))
            image.load()
    except Exception:
        return False
    return True
