"""A folder of images in classes, parted already or to be parted here."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from sp_bench.data.dataset import DataError, ImageDataset, Selection, Splits
from sp_bench.data.image_files import find_files, find_unreadable, is_image_name, open_image
from sp_bench.data.stratify import split_off

TEST_NAMES = ("test", "val", "validation")
TEST_SHARE = 0.2

Files = list[tuple[str, str]]  # (class, path) of each image


class FolderDataset(ImageDataset):
    """Images read from their files when they are asked for.

    Args:
        paths: (N,) the files.
        labels: (N,) their classes, each in ``[0, len(classes))``.
        classes: The names of the classes, by label.

    Example:
        >>> images = FolderDataset(["sea.jpg"], [0], ("coast",))
        >>> len(images), images.classes
        (1, ('coast',))
    """

    def __init__(
        self, paths: Sequence[str], labels: Sequence[int], classes: tuple[str, ...]
    ) -> None:
        # One array of bytes rather than a list: forked workers then share its memory for good.
        self._paths = np.array([os.fsencode(path) for path in paths])
        self.labels = torch.tensor(labels, dtype=torch.int64)
        self.classes = classes

    def image(self, index: int) -> Image.Image:
        """Decodes the image at ``index``, in RGB."""
        return open_image(os.fsdecode(bytes(self._paths[index])))


def load_folder(folder: Path, *, seed: int = 0) -> Splits:
    """Reads ``FOLDER/train/CLASS/*`` and ``FOLDER/test/CLASS/*``, or ``FOLDER/CLASS/*``.

    ``val`` or ``validation`` will do for ``test``. Without them, a fifth of each class is held
    out. Class folders without images are passed over.

    Args:
        folder: Where the images are.
        seed: Of the choice of what is held out.

    Returns:
        The two splits, and the files that could not be read.

    Raises:
        DataError: There is no such folder; it has no images, no classes or one class; a class
            of the test part is missing in the training part; or more than 1 % of the files cannot
            be read.

    Example:
        >>> load_folder(Path("holiday"))
        Traceback (most recent call last):
        sp_bench.data.dataset.DataError: data='holiday': the folder does not exist
    """
    if not folder.is_dir():
        what = "this is a file, not a folder" if folder.exists() else "the folder does not exist"
        raise DataError(f"data={str(folder)!r}: {what}")
    if _folders(folder / "train"):
        return _load_parted(folder)
    return _load_whole(folder, seed)


def _load_parted(folder: Path) -> Splits:
    test_name = next((name for name in TEST_NAMES if _folders(folder / name)), None)
    if test_name is None:
        raise DataError(
            f"data={str(folder)!r}: it has train/ with classes but no test/, val/ or validation/ "
            f"with them; add one, or give {str(folder / 'train')!r} to have a fifth held out"
        )
    train, test = _find(folder / "train"), _find(folder / test_name)
    unreadable = _unreadable(train + test)
    train, test = _without(train, unreadable), _without(test, unreadable)
    classes = _classes(folder / "train", train)
    _classes(folder / test_name, test)
    unknown = sorted({name for name, _ in test} - set(classes))
    if unknown:
        raise DataError(
            f"data={str(folder)!r}: class {unknown[0]!r} is in {test_name}/ but has no images "
            f"in train/ ({len(unknown)} such in all); train/ takes every class of {test_name}/"
        )
    return Splits(folder.name, _build(train, classes), _build(test, classes), unreadable)


def _load_whole(folder: Path, seed: int) -> Splits:
    files = _find(folder)
    unreadable = _unreadable(files)
    files = _without(files, unreadable)
    classes = _classes(folder, files)
    if "train" in classes and set(TEST_NAMES) & set(classes):
        raise DataError(
            f"data={str(folder)!r}: its train/ holds images but no classes; "
            "it takes train/CLASS/* and test/CLASS/*, or CLASS/*"
        )
    whole = _build(files, classes)
    labels = whole.labels.numpy()
    counts = np.bincount(labels)
    if counts.min() < 2:
        raise DataError(
            f"data={str(folder)!r}: class {classes[int(counts.argmin())]!r} has 1 image; "
            "each takes at least 2, one of them to be held out"
        )
    train, test = split_off(labels, TEST_SHARE, seed)
    return Splits(folder.name, Selection(whole, train), Selection(whole, test), unreadable)


def _find(folder: Path) -> Files:
    """The image files in the class folders of a folder."""
    return [(name, path) for name in _folders(folder) for path in find_files(folder / name)]


def _unreadable(files: Files) -> tuple[str, ...]:
    return tuple(files[i][1] for i in find_unreadable([path for _, path in files]))


def _without(files: Files, unreadable: tuple[str, ...]) -> Files:
    left_out = set(unreadable)
    return [file for file in files if file[1] not in left_out]


def _classes(folder: Path, files: Files) -> tuple[str, ...]:
    """The names of the classes, at least two."""
    classes = tuple(sorted({name for name, _ in files}))
    if len(classes) > 1:
        return classes
    where = f"data={str(folder)!r}"
    if classes:
        raise DataError(f"{where}: one class only, {classes[0]!r}; it takes at least 2")
    if any(is_image_name(file.name) for file in folder.iterdir()):
        raise DataError(f"{where}: images but no classes; put them in a folder for each class")
    raise DataError(f"{where}: no images in it; it takes folders of images, one for each class")


def _build(files: Files, classes: tuple[str, ...]) -> FolderDataset:
    label_of = {name: label for label, name in enumerate(classes)}
    paths = [path for _, path in files]
    return FolderDataset(paths, [label_of[name] for name, _ in files], classes)


def _folders(folder: Path) -> list[str]:
    """The names of the folders in a folder, hidden ones left out; none if it is not there."""
    if not folder.is_dir():
        return []
    names = [path.name for path in folder.iterdir() if path.is_dir()]
    return sorted(name for name in names if not name.startswith("."))
