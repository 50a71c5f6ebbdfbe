"""Listing of image files: in folders and their subfolders, each entered once."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path

from torchvision.datasets.folder import IMG_EXTENSIONS

from sp_bench.data.array_files import ARRAY_ENDINGS
from sp_bench.data.dataset import DataError


def is_image_name(name: str) -> bool:
    """Whether a file name has the ending of an image; hidden files and arrays are excluded."""
    return not name.startswith(".") and name.lower().endswith(IMG_EXTENSIONS)


def is_array_name(name: str) -> bool:
    """Whether a file name has the ending of an array; hidden files are excluded."""
    return not name.startswith(".") and name.lower().endswith(ARRAY_ENDINGS)


def has_images(folder: Path) -> bool:
    """Whether images lie directly in a folder; arrays where there are no subfolders."""
    paths = list(folder.iterdir())
    if any(is_image_name(path.name) for path in paths):
        return True
    return any(is_array_name(p.name) for p in paths) and not any(p.is_dir() for p in paths)


def list_images(folder: Path) -> list[Path]:
    """Sorted paths of the image files in a folder and its subfolders.

    Args:
        folder: folder to search.

    Raises:
        DataError: the folder is missing, or contains no image files.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = Path(folder, "sea.png").write_bytes(b"")
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
        endings = ", ".join((*sorted(IMG_EXTENSIONS), *ARRAY_ENDINGS))
        raise DataError.of(folder, f"no images in it; it takes {endings}")
    return [Path(path) for path in paths]


def find_files(folder: str | Path, excluded: Iterable[str | Path] = ()) -> list[str]:
    """Sorted image files in a folder and its subfolders, possibly none.

    Arrays (``.npy``, ``.npz``) are images where there are no others: next to images they are
    masks, depths or features of these. Symbolic links are followed, but each folder is entered
    once, and none of those above this one.

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
    paths.sort()
    images = [str(path) for path in paths if is_image_name(path.name)]
    return images or [str(path) for path in paths if is_array_name(path.name)]


def folder_ids(folders: Iterable[str | Path]) -> set[tuple[int, int]]:
    """Device and inode of each folder that exists, which are the same through any link."""
    identities = set()
    for folder in folders:
        with contextlib.suppress(OSError):
            status = Path(folder).stat()
            identities.add((status.st_dev, status.st_ino))
    return identities
