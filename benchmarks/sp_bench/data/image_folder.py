"""Image folders: with a subfolder per class, already split or to be split here; or flat."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sp_bench.data.array_files import read_layout
from sp_bench.data.dataset import RGB, DataError, ImageDataset, ImageKind, Selection, Splits
from sp_bench.data.image_files import find_unreadable, read_image
from sp_bench.data.image_kind import common_kind
from sp_bench.data.image_listing import find_files, folder_ids, has_images
from sp_bench.data.stratify import split_off

TEST_NAMES = ("test", "val", "validation")
TEST_SHARE = 0.2
_MIN_IMAGES = 10  # of a flat folder

Files = list[tuple[str, str]]  # (class, path) of each image


class FolderDataset(ImageDataset):
    """Images that are decoded from their files at each access.

    Args:
        paths: (N,) image files.
        labels: (N,) classes, each in ``[0, len(classes))``.
        classes: names of the classes, by label.
        kind: kind of the images, RGB by default.
        layout: layout of arrays, as for `channel_axis`.

    >>> images = FolderDataset(["sea.jpg"], [0], ("coast",))
    >>> len(images), images.classes
    (1, ('coast',))
    """

    def __init__(
        self,
        paths: Sequence[str],
        labels: Sequence[int],
        classes: tuple[str, ...],
        kind: ImageKind = RGB,
        layout: str | None = None,
    ) -> None:
        # One array of bytes rather than a list: forked workers never copy its memory.
        self._paths = np.array([os.fsencode(path) for path in paths])
        self.labels = torch.tensor(labels, dtype=torch.int64)
        self.classes = classes
        self.kind, self._layout = kind, layout

    def image(self, index: int) -> Any:
        return read_image(os.fsdecode(bytes(self._paths[index])), self.kind, self._layout)


def load_folder(folder: Path, *, seed: int = 0) -> Splits:
    """Load ``FOLDER/train/CLASS/*`` and ``FOLDER/test/CLASS/*``, or ``FOLDER/CLASS/*``.

    ``val`` and ``validation`` are accepted for ``test``. Without a test folder a fifth of each
    class is held out. Class folders without images are ignored.

    Args:
        folder: folder in one of the two layouts.
        seed: seed of the held-out fifth.

    Raises:
        DataError: the folder is missing; it has no images, no classes or one class; a class of
            the test folder has no training images; or more than 1 % of the files are unreadable.

    >>> load_folder(Path("holiday"))
    Traceback (most recent call last):
    sp_bench.data.dataset.DataError: data='holiday': the folder does not exist
    """
    if not folder.is_dir():
        missing = "the folder does not exist"
        raise DataError.of(folder, "this is a file, not a folder" if folder.exists() else missing)
    if _subfolders(folder / "train"):
        return _load_train_and_test(folder)
    return _load_and_split(folder, seed)


def load_flat_folder(folder: Path) -> Splits:
    """Load images without classes, and hold out a fifth of them.

    Args:
        folder: folder with images directly in it.

    Raises:
        DataError: there are fewer than 10 images, or more than 1 % of the files are unreadable.
    """
    files = [("image", path) for path in find_files(folder)]
    layout = read_layout(folder)
    skipped = _unreadable(files, layout)
    (whole,) = _build(("image",), layout, _without(files, skipped))
    if len(whole) < _MIN_IMAGES:
        raise DataError.of(folder, f"{len(whole)} images; it takes at least {_MIN_IMAGES}")
    train, test = split_off(whole.labels.numpy(), TEST_SHARE, seed=0)
    return Splits(folder.name, Selection(whole, train), Selection(whole, test), skipped)


def _load_train_and_test(folder: Path) -> Splits:
    test_name = next((name for name in TEST_NAMES if _subfolders(folder / name)), None)
    if test_name is None:
        raise DataError.of(
            folder,
            "it has train/ with classes but no test/, val/ or validation/ with them; add one, or "
            f"give {str(folder / 'train')!r} to have a fifth held out",
        )
    train, test = _list_files(folder / "train"), _list_files(folder / test_name)
    layout = read_layout(folder)
    skipped = _unreadable(train + test, layout)
    train, test = _without(train, skipped), _without(test, skipped)
    classes = _class_names(folder / "train", train)
    _class_names(folder / test_name, test)
    unknown = sorted({name for name, _ in test} - set(classes))
    if unknown:
        raise DataError.of(
            folder,
            f"class {unknown[0]!r} is in {test_name}/ but has no images in train/ "
            f"({len(unknown)} such in all); train/ takes every class of {test_name}/",
        )
    parts = _build(classes, layout, train, test)
    return Splits(folder.name, parts[0], parts[1], skipped)


def _load_and_split(folder: Path, seed: int) -> Splits:
    files = _list_files(folder)
    layout = read_layout(folder)
    skipped = _unreadable(files, layout)
    files = _without(files, skipped)
    classes = _class_names(folder, files)
    if "train" in classes and set(TEST_NAMES) & set(classes):
        raise DataError.of(
            folder,
            "its train/ holds images but no classes; it takes train/CLASS/* and test/CLASS/*, or "
            "CLASS/*",
        )
    (whole,) = _build(classes, layout, files)
    labels = whole.labels.numpy()
    counts = np.bincount(labels)
    if counts.min() < 2:
        raise DataError.of(
            folder,
            f"class {classes[int(counts.argmin())]!r} has 1 image; each takes at least 2, one of "
            "them to be held out",
        )
    train, test = split_off(labels, TEST_SHARE, seed)
    return Splits(folder.name, Selection(whole, train), Selection(whole, test), skipped)


def _list_files(folder: Path) -> Files:
    """Image files in the class folders of ``folder``.

    Names are in Unicode's composed form (NFC); macOS writes decomposed ones (NFD), so that a name
    with an accent can be spelled in two ways.
    """
    folders = [folder / name for name in _subfolders(folder)]
    return [
        (unicodedata.normalize("NFC", of_class.name), path)
        for of_class in folders
        for path in find_files(of_class, excluded=folders)
    ]


def _unreadable(files: Files, layout: str | None) -> tuple[str, ...]:
    return tuple(files[i][1] for i in find_unreadable([path for _, path in files], layout))


def _without(files: Files, skipped: tuple[str, ...]) -> Files:
    left_out = set(skipped)
    return [file for file in files if file[1] not in left_out]


def _class_names(folder: Path, files: Files) -> tuple[str, ...]:
    """Sorted names of the classes, at least two."""
    classes = tuple(sorted({name for name, _ in files}))
    if len(classes) > 1:
        return classes
    if classes:
        raise DataError.of(folder, f"one class only, {classes[0]!r}; it takes at least 2")
    if has_images(folder):
        raise DataError.of(
            folder,
            "images but no classes; put them in a folder for each class (tasks without labels, "
            "such as pair and jigsaw, take the folder as it is)",
        )
    raise DataError.of(folder, "no images in it; it takes folders of images, one for each class")


def _build(classes: tuple[str, ...], layout: str | None, *parts: Files) -> list[FolderDataset]:
    """A data set of each part, all of the same kind."""
    label_of = {name: label for label, name in enumerate(classes)}
    kind = common_kind((path for part in parts for _, path in part), layout)
    return [
        FolderDataset(
            [path for _, path in part], [label_of[name] for name, _ in part], classes, kind, layout
        )
        for part in parts
    ]


def _subfolders(folder: Path) -> list[str]:
    """Sorted names of the subfolders; none if the folder is missing.

    Without hidden ones, and without links to the folder itself or to one above it.
    """
    if not folder.is_dir():
        return []
    above = folder_ids([folder, *folder.absolute().parents, *folder.resolve().parents])
    names = [path.name for path in folder.iterdir() if path.is_dir()]
    return sorted(
        name
        for name in names
        if not name.startswith(".") and above.isdisjoint(folder_ids([folder / name]))
    )
