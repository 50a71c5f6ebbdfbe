"""Images of a source: `load_data`, and the loaders of tasks with and without labels."""

from __future__ import annotations

import difflib
import os
from dataclasses import replace
from pathlib import Path

from sp_bench.data.dataset import DataError, Selection, Splits
from sp_bench.data.demo import load_demo
from sp_bench.data.image_folder import TEST_SHARE, load_flat_folder, load_folder
from sp_bench.data.image_listing import has_images
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
    labelled: bool = True,
    download_root: Path = DOWNLOAD_ROOT,
) -> Splits:
    """Load the training images and the test images of a source.

    Args:
        spec: ``demo``, a folder of images in classes, or a name of torchvision such as
            ``cifar10``.
        seed: seed of the demo, of what is held out of a folder, and of the choice by ``limit``.
        size: number of training images of the demo, 1500 by default; a third as many test images
            are made. Only for the demo.
        limit: largest number of training images, with the share of each class kept.
        validation: whether a fifth of the training images is held out in place of the test
            images, for the choice of settings; the same fifth for every limit.
        labelled: whether the images need classes; False: a folder of images without classes will
            do, of which a fifth is held out.
        download_root: folder of torchvision's downloads.

    Raises:
        DataError: the source cannot be used; one line with the reason and the remedy.

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
        splits = load_demo(seed=seed, size=size)
    else:
        splits = _load_folder_or_name(spec, seed, labelled, download_root)
    if validation:
        splits = _hold_out_validation(splits, seed)
    return _limit_training(splits, limit, seed)


def load_labelled(source: str | None, shared: Splits | None) -> Splits:
    """Images in classes for a task: its own, or the shared ones.

    Args:
        source: the task's own source, as for `load_data`.
        shared: images of all tasks.

    Raises:
        DataError: both are None, or the source cannot be used.
    """
    if source is not None:
        return load_data(source)
    if shared is None:
        raise DataError("it takes images in classes")
    return shared


def load_unlabelled(source: str | None, shared: Splits | None) -> Splits:
    """Images for a task that uses no labels; the source can also be a folder without classes.

    Arguments and errors are those of `load_labelled`. A fifth of a folder without classes is held
    out.

    >>> load_unlabelled(None, None)
    Traceback (most recent call last):
    sp_bench.data.dataset.DataError: it takes a folder of images
    """
    if source is None and shared is None:
        raise DataError("it takes a folder of images")
    return load_labelled(None, shared) if source is None else load_data(source, labelled=False)


def _hold_out_validation(splits: Splits, seed: int) -> Splits:
    rest, held_out = split_off(splits.train.labels.numpy(), TEST_SHARE, seed)
    train, test = Selection(splits.train, rest), Selection(splits.train, held_out)
    return replace(splits, name=f"{splits.name}, validation", train=train, test=test)


def _load_folder_or_name(spec: str, seed: int, labelled: bool, download_root: Path) -> Splits:
    folder = Path(spec).expanduser()
    if spec and folder.exists():
        is_flat = not labelled and folder.is_dir() and has_images(folder)
        return load_flat_folder(folder) if is_flat else load_folder(folder, seed=seed)
    name = spec.lower().replace("-", "").replace("_", "")
    if name in CATALOGUE:
        if labelled and not CATALOGUE[name].labelled:
            raise DataError.of(
                spec, "its images have no classes; a task with classes takes data of its own"
            )
        return load_torchvision(name, root=Path(download_root).expanduser())
    raise DataError.of(spec, _why_unknown(spec, name))


def _why_unknown(spec: str, name: str) -> str:
    if "/" in spec or os.sep in spec or spec.startswith(("~", ".")):
        return "the folder does not exist"
    nearest = difflib.get_close_matches(name, ["demo", *CATALOGUE], n=1)
    if nearest:
        return f"unknown; did you mean {nearest[0]!r}?"
    known = ", ".join(CATALOGUE)
    return f"no such folder or name; it takes demo, a folder of images in classes, or {known}"


def _limit_training(splits: Splits, limit: int | None, seed: int) -> Splits:
    if limit is None or limit >= len(splits.train):
        return splits
    labels = splits.train.labels.numpy()
    classes = len(set(labels.tolist()))
    if limit < classes:
        raise DataError(f"limit={limit}: it takes at least one image for each of {classes} classes")
    return replace(splits, train=Selection(splits.train, take(labels, limit, seed)))
