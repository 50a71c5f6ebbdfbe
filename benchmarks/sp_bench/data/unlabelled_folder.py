"""Images without classes: a flat folder, for tasks that ask about images alone."""

from __future__ import annotations

from pathlib import Path

import torch

from sp_bench.data.dataset import DataError, Selection, Splits
from sp_bench.data.image_files import find_files, find_unreadable, is_image_name
from sp_bench.data.image_folder import TEST_SHARE, FolderDataset
from sp_bench.data.load import load_data
from sp_bench.data.stratify import split_off

_LEAST = 10


def images_without_labels(given: str | None, main: Splits | None) -> Splits:
    """The images given for a task, in classes or not, else those of all tasks.

    A fifth of a folder without classes is held out.

    Args:
        given: as `load_data` takes it, or a folder with images directly in it; or None.
        main: the images of all tasks, or None.

    Raises:
        DataError: neither was given, or they cannot be used.

    >>> images_without_labels(None, None)
    Traceback (most recent call last):
    sp_bench.data.dataset.DataError: it takes a folder of images
    """
    if given is None:
        if main is None:
            raise DataError("it takes a folder of images")
        return main
    folder = Path(given).expanduser()
    if folder.is_dir() and any(is_image_name(path.name) for path in folder.iterdir()):
        return _split(folder)
    return load_data(given)


def _split(folder: Path) -> Splits:
    files = find_files(folder)
    unreadable = set(find_unreadable(files))
    good = [path for index, path in enumerate(files) if index not in unreadable]
    if len(good) < _LEAST:
        raise DataError(
            f"data={str(folder)!r}: {len(good)} images; it takes at least {_LEAST}, a fifth of "
            "them to be held out"
        )
    whole = FolderDataset(good, [0] * len(good), ("image",))
    train, test = split_off(torch.zeros(len(good)).numpy(), TEST_SHARE, seed=0)
    skipped = tuple(files[index] for index in sorted(unreadable))
    return Splits(folder.name, Selection(whole, train), Selection(whole, test), skipped)
