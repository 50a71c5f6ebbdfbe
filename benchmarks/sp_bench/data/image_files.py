"""Image files: listing, opening, resizing, and finding unreadable ones."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from PIL import Image, ImageOps
from torchvision.datasets.folder import IMG_EXTENSIONS
from torchvision.transforms.v2 import functional as image_ops

from sp_bench.data.dataset import DataError
from sp_bench.data.image_modes import to_rgb

MAX_UNREADABLE = 0.01  # fraction of all files; more indicates a broken copy


def open_image(path: str | Path) -> Image.Image:
    """Read an image file in RGB, upright by its EXIF orientation.

    Args:
        path: file that PIL can read.

    Raises:
        OSError: the file is missing, is no image, or is truncated.
        DataError: its mode has no known range, as for `to_rgb`.
        Image.DecompressionBombError: it has more pixels than PIL takes.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     Image.new("L", (4, 3)).save(f"{folder}/grey.png")
    ...     open_image(f"{folder}/grey.png").mode
    'RGB'
    """
    # By its path, PIL maps a file into memory, and a rotated TIFF then has its pixels mixed up.
    with Path(path).open("rb") as file, Image.open(file) as image:
        return to_rgb(ImageOps.exif_transpose(image), image.format)


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


def find_files(folder: str | Path, excluded: Iterable[str | Path] = ()) -> list[str]:
    """Sorted image files in a folder and its subfolders, possibly none.

    Symbolic links are followed, but each folder is entered once, and none of those above this one.

    Args:
        folder: folder to search.
        excluded: further folders that are not entered, such as those of other classes.
    """
    folder = Path(folder)
    entered = folder_ids([*folder.absolute().parents, *folder.resolve().parents, *excluded])
    paths = []
    for parent, folders, names in os.walk(folder, followlinks=True):
        entered |= folder_ids([parent])
        new = []
        for name in sorted(folders):
            (identity,) = folder_ids([Path(parent, name)]) or (None,)
            if identity is not None and identity not in entered:
                entered.add(identity)
                new.append(name)
        folders[:] = new
        paths += [Path(parent, name) for name in names]
    return [str(path) for path in sorted(paths) if is_image_name(path.name)]


def folder_ids(folders: Iterable[str | Path]) -> set[tuple[int, int]]:
    """Device and inode of each folder that exists, which are the same through any link."""
    identities = set()
    for folder in folders:
        with contextlib.suppress(OSError):
            status = Path(folder).stat()
            identities.add((status.st_dev, status.st_ino))
    return identities


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
        problems = list(pool.map(find_problem, paths))
    unreadable = [index for index, problem in enumerate(problems) if problem]
    if len(unreadable) > MAX_UNREADABLE * len(paths):
        first = unreadable[0]
        raise DataError(
            f"{len(unreadable)} of {len(paths)} images cannot be read, more than "
            f"{MAX_UNREADABLE:.0%}; the first is {str(paths[first])!r}: {problems[first]}"
        )
    return unreadable


def find_problem(path: str | Path) -> str:
    """Why a file cannot be used as an image, and the remedy; empty if it can."""
    # PIL's decoders raise errors of many types on damaged files (OSError, SyntaxError, ValueError,
    # struct.error, zlib.error ...).
    try:
        with Image.open(path) as image:
            image.draft("RGB", (1, 1))
            image.load()
            if image.mode in ("I", "F", "LAB"):
                to_rgb(image.resize((1, 1)), image.format)
    except DataError as error:
        return str(error)
    except Image.DecompressionBombError as error:
        return f"it is too large ({error}); make it smaller, or remove it"
    except Exception as error:
        reason = str(error).replace(repr(str(path)), "").strip(" :") or type(error).__name__
        return f"{' '.join(reason.split())}; copy it again or remove it"
    return ""
