"""Image files: finding them, opening them, and telling the unreadable ones."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from PIL import Image, ImageOps
from torchvision.datasets.folder import IMG_EXTENSIONS

from sp_bench.data.dataset import DataError

MAX_UNREADABLE = 0.01  # a share of all files: above it, something is wrong with the copy


def open_image(path: str | Path) -> Image.Image:
    """Reads an image file, upright as its EXIF orientation says.

    Args:
        path: A file that PIL can read.

    Returns:
        The decoded image in RGB.

    Raises:
        OSError: The file is missing, is no image, or is cut short.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     Image.new("L", (4, 3)).save(f"{folder}/grey.png")
        ...     open_image(f"{folder}/grey.png").mode
        'RGB'
    """
    with Image.open(path) as image:
        return ImageOps.exif_transpose(image).convert("RGB")


def is_image_name(name: str) -> bool:
    """Whether a file of this name is taken for an image; hidden files are not."""
    return not name.startswith(".") and name.lower().endswith(IMG_EXTENSIONS)


def list_images(folder: Path) -> list[Path]:
    """Finds the image files in a folder and in the folders below it.

    Args:
        folder: Where to look.

    Returns:
        Their paths, sorted.

    Raises:
        DataError: The folder is missing, or no file in it has the name of an image.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     Image.new("RGB", (4, 3)).save(f"{folder}/sea.png")
        ...     [path.name for path in list_images(Path(folder))]
        ['sea.png']
    """
    folder = Path(folder).expanduser()
    if not folder.exists():
        raise DataError(f"data={str(folder)!r}: the folder does not exist")
    if not folder.is_dir():
        raise DataError(f"data={str(folder)!r}: this is a file; it takes a folder of images")
    paths = find_files(folder)
    if not paths:
        raise DataError(f"data={str(folder)!r}: no images in it; it takes {_endings()}")
    return [Path(path) for path in paths]


def find_files(folder: Path) -> list[str]:
    """The image files in a folder and below it, sorted; none is no error."""
    walk = os.walk(folder, followlinks=True)
    paths = [Path(parent, name) for parent, _, names in walk for name in names]
    return [str(path) for path in sorted(paths) if is_image_name(path.name)]


def find_unreadable(paths: Sequence[str]) -> list[int]:
    """Tries every file once, in threads, and tells which cannot be read.

    Each file is decoded, JPEGs at an eighth of their size: that meets the same errors as a full
    decoding in about half the time. A look at the header alone would miss files cut short.

    Args:
        paths: The files.

    Returns:
        The indices of the unreadable ones, in order.

    Raises:
        DataError: They are more than 1 % of all files.

    Example:
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
    # PIL's decoders raise many kinds of error on damaged files (OSError, SyntaxError, ValueError,
    # struct.error, zlib.error ...), and each of them means the same here.
    try:
        with Image.open(path) as image:
            image.draft("RGB", (1, 1))
            image.load()
    except Exception:
        return False
    return True


def _endings() -> str:
    return ", ".join(sorted(IMG_EXTENSIONS))
