"""From what was given as ``--data`` to images."""

from __future__ import annotations

import difflib
import os
from dataclasses import replace
from pathlib import Path

from sp_bench.data.dataset import DataError, Selection, Splits
from sp_bench.data.demo import load_demo
from sp_bench.data.image_folder import TEST_SHARE, load_folder
from sp_bench.data.stratify import split_off, take
from sp_bench.data.torchvision_datasets import CATALOGUE, load_torchvision

DOWNLOAD_ROOT = Path("~/.cache/sp_bench")


def load_data(
    spec: str,
    *,
    seed: int = 0,
    size: int | None = None,
    limit: int | None = None,
    validation: bool = False,
    download_root: Path = DOWNLOAD_ROOT,
) -> Splits:
    """Loads the images to train on and those held out.

    Args:
        spec: ``demo``, a folder of images in classes, or a name of torchvision such as
            ``cifar10``.
        seed: Of the demo, of what is held out of a folder, and of what ``limit`` keeps.
        size: How many training images the demo makes (3000 unless given); a third of it is
            made to be held out. For the demo only.
        limit: Use at most so many training images, each class in its share.
        validation: Hold out a fifth of the training images in place of the test images, the
            same whatever the limit: to choose settings by.
        download_root: Where torchvision keeps what it downloads.

    Returns:
        The two splits and the names of unreadable files.

    Raises:
        DataError: One line that says what is wrong with the data, and what would do.

    Example:
        >>> splits = load_data("demo", size=60, limit=24)
        >>> len(splits.train), len(splits.test)
        (24, 20)
        >>> load_data("cifr10")
        Traceback (most recent call last):
        sp_bench.data.dataset.DataError: data='cifr10': unknown; did you mean 'cifar10'?
    """
    if limit is not None and limit < 1:
        raise DataError(f"limit={limit}: it takes a number of images, at least 1")
    if spec != "demo" and size is not None:
        raise DataError(f"size={size}: only 'demo' has it, not data={spec!r}; use limit")
    if spec == "demo" and not validation:
        return load_demo(seed=seed, size=size, limit=limit)
    if spec == "demo":
        whole = load_demo(seed=seed, size=size)
    else:
        whole = _load_whole(spec, seed, download_root)
    return _limited(_without_test(whole, seed) if validation else whole, limit, seed)


def _without_test(splits: Splits, seed: int) -> Splits:
    kept, held_out = split_off(splits.train.labels.numpy(), TEST_SHARE, seed)
    train, test = Selection(splits.train, kept), Selection(splits.train, held_out)
    return replace(splits, name=f"{splits.name}, validation", train=train, test=test)


def _load_whole(spec: str, seed: int, download_root: Path) -> Splits:
    folder = Path(spec).expanduser()
    if spec and folder.exists():
        return load_folder(folder, seed=seed)
    name = spec.lower().replace("-", "").replace("_", "")
    if name in CATALOGUE:
        return load_torchvision(name, root=Path(download_root).expanduser())
    raise DataError(f"data={spec!r}: {_why_unknown(spec, name)}")


def _why_unknown(spec: str, name: str) -> str:
    if "/" in spec or os.sep in spec or spec.startswith(("~", ".")):
        return "the folder does not exist"
    near = difflib.get_close_matches(name, ["demo", *CATALOGUE], n=1)
    if near:
        return f"unknown; did you mean {near[0]!r}?"
    known = ", ".join(CATALOGUE)
    return f"no such folder or name; it takes demo, a folder of images in classes, or {known}"


def _limited(splits: Splits, limit: int | None, seed: int) -> Splits:
    if limit is None or limit >= len(splits.train):
        return splits
    labels = splits.train.labels.numpy()
    classes = len(set(labels.tolist()))
    if limit < classes:
        raise DataError(f"limit={limit}: it takes at least one image for each of {classes} classes")
    return replace(splits, train=Selection(splits.train, take(labels, limit, seed)))
