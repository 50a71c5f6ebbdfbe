"""Flat folders of images without classes, for tasks that use no labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from sp_bench.data.dataset import DataError, Selection, Splits
from sp_bench.data.image_files import find_files, find_unreadable, is_image_name
from sp_bench.data.image_folder import TEST_SHARE, FolderDataset
from sp_bench.data.load import load_data
from sp_bench.data.stratify import split_off

_MIN_IMAGES = 10


def load_unlabelled(source: str | None, shared: Splits | None) -> Splits:
    """Images of a task that uses no labels: its own, with or without classes, or the shared ones.

    A fifth of a folder without classes is held out.

    Args:
        source: the task's own source, as for `load_data`, or a folder with images directly in it.
        shared: images of all tasks.

    Raises:
        DataError: both are None, or the source cannot be used.

    >>> load_unlabelled(None, None)
    Traceback (most recent call last):
    sp_bench.data.dataset.DataError: it takes a folder of images
    """
    if source is None:
        if shared is None:
            raise DataError("it takes a folder of images")
        return shared
    folder = Path(source).expanduser()
    if folder.is_dir() and any(is_image_name(path.name) for path in folder.iterdir()):
        return _load_flat(folder)
    return load_data(source)


def _load_flat(folder: Path) -> Splits:
    files = find_files(folder)
    unreadable = set(find_unreadable(files))
    readable = [path for index, path in enumerate(files) if index not in unreadable]
    if len(readable) < _MIN_IMAGES:
        raise DataError.of(
            folder,
            f"{len(readable)} images; it takes at least {_MIN_IMAGES}, a fifth of them to be held "
            "out",
        )
    labels = np.zeros(len(readable), np.int64)
    whole = FolderDataset(readable, labels, ("image",))
    train, test = split_off(labels, TEST_SHARE, seed=0)
    skipped = tuple(files[index] for index in sorted(unreadable))
    return Splits(folder.name, Selection(whole, train), Selection(whole, test), skipped)
