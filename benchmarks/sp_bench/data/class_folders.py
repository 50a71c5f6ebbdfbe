"""Images in folders of classes that are those of other images, such as variants of ImageNet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from timm.data import ImageNetInfo

from sp_bench.data.dataset import DataError
from sp_bench.data.image_listing import find_files

_IMAGENET_CLASSES = 1000


def list_class_folders(folder: Path, classes: Sequence[str]) -> tuple[list[str], list[int]]:
    """Images in ``FOLDER/CLASS/*`` whose class is one of the given ones.

    A folder is named as its class, by WordNet ID where these are; or by the number of a class of
    ImageNet from 0 to 999, as in ImageNet-V2, whose order is not that of the folders' names.

    Args:
        folder: folder of classes.
        classes: names of the classes, by label.

    Returns:
        Paths, and the label of each.

    Raises:
        DataError: the folder is missing, or fewer than two of its classes are given ones.
    """
    if not folder.is_dir():
        raise DataError.of(folder, "the folder does not exist")
    label_of = {name: label for label, name in enumerate(classes)}
    names = sorted(path.name for path in folder.iterdir() if path.is_dir())
    known = {name: label for name in names if (label := _label(name, label_of)) is not None}
    files = [(path, label) for name, label in known.items() for path in find_files(folder / name)]
    if len({label for _, label in files}) < 2:
        raise DataError.of(
            folder,
            f"{len(known)} of its classes ({_some(names)}) are those of the training images "
            f"({_some(classes)}), it takes two; ImageNet's are named by WordNet ID, as n01440764",
        )
    paths, labels = zip(*files, strict=True)
    return list(paths), list(labels)


def _label(name: str, label_of: Mapping[str, int]) -> int | None:
    if name not in label_of and name.isdecimal() and int(name) < _IMAGENET_CLASSES:
        name = ImageNetInfo().index_to_label_name(int(name))
    return label_of.get(name)


def _some(names: Sequence[str]) -> str:
    return ", ".join([*names[:3], *(["..."] if len(names) > 3 else [])]) or "none"
