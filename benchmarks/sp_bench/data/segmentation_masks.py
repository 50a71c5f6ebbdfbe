"""Images with class masks: folders as CamVid's, Pascal VOC by name, and the demo's parts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torchvision import datasets

from sp_bench.data.dataset import DataError, Splits
from sp_bench.data.dense_dataset import (
    VOID,
    DemoValues,
    DenseDataset,
    FileValues,
    demo_of,
    find_pairs,
)
from sp_bench.data.load import DOWNLOAD_ROOT

_NAMES_FILE = "classes.txt"
_VOC = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair",
    "cow", "dining table", "dog", "horse", "motorbike", "person", "potted plant", "sheep", "sofa",
    "train", "monitor",
)  # fmt: skip


class FileMasks(FileValues):
    """Images and masks from files.

    Args:
        images: (N,) files.
        masks: (N,) files of one channel; a value that is none of the classes' is void.
        names: of the classes, by value.
    """

    def __init__(self, images: list[str], masks: list[str], names: tuple[str, ...]) -> None:
        super().__init__(images, masks)
        self.names = names

    def read(self, path: str) -> np.ndarray:
        """The classes in a file."""
        mask = read_mask(path)
        return np.where(mask < len(self.names), mask, VOID).astype(np.uint8)


class VOCMasks(DenseDataset):
    """torchvision's ``VOCSegmentation``."""

    names = _VOC

    def __init__(self, dataset: Any) -> None:
        self.source, self._dataset = self, dataset
        self.labels = torch.zeros(len(dataset), dtype=torch.int64)
        self.classes = ("image",)

    def image(self, index: int) -> Image.Image:
        image: Image.Image = self._dataset[index][0]
        return image.convert("RGB")

    def values(self, index: int) -> np.ndarray:
        return np.asarray(self._dataset[index][1], np.uint8)


def load_masks(given: str | None, main: Splits | None) -> Splits:
    """Images with masks.

    Args:
        given: ``demo``, ``voc``, or a folder with ``train``, ``trainannot``, ``test`` (or
            ``val``) and its own; None takes the demo's where it is what all tasks are asked about.
        main: the images of all tasks, or None.

    Returns:
        Splits of `DenseDataset`.

    Raises:
        DataError: there are none, or they cannot be used.

    A folder's ``classes.txt`` names the classes, one a line, by value; every other value is void.
    Without it the classes are 0 to the largest value in the masks, and 255 is void.
    """
    if demo := demo_of(given, main):
        names = ("rest", *demo[0].part_names)
        train, test = (DemoValues(part, part.part_mask, names) for part in demo)
        return Splits("demo", train, test)
    if given is None:
        raise DataError("it takes images with masks: demo, voc, or a folder as CamVid's")
    folder = Path(given).expanduser()
    if given.lower() == "voc" and not folder.exists():
        return _load_voc(DOWNLOAD_ROOT.expanduser())
    pairs = find_pairs(folder, "annot", (".png",))
    names = _names(folder, [path for _, masks in pairs.values() for path in masks])
    return Splits(folder.name, FileMasks(*pairs["train"], names), FileMasks(*pairs["test"], names))


def read_mask(path: str) -> np.ndarray:
    """The values of a mask of one channel, as they stand in the file.

    Raises:
        DataError: it cannot be read, or has colours instead of values.
    """
    try:
        with Image.open(path) as image:
            if image.mode not in ("L", "P", "I", "I;16"):
                raise DataError(f"{path!r}: an image of mode {image.mode}; it takes one channel")
            return np.asarray(image)
    except OSError as error:
        raise DataError(f"{path!r}: cannot be read: {error}") from error


def _names(folder: Path, masks: list[str]) -> tuple[str, ...]:
    listed = folder / _NAMES_FILE
    if listed.exists():
        names = tuple(line.strip() for line in listed.read_text().splitlines() if line.strip())
        if len(names) >= 2:
            return names
        raise DataError(f"data={str(folder)!r}: {_NAMES_FILE} names {len(names)}, it takes two up")
    values = {int(value) for path in masks for value in np.unique(read_mask(path))} - {VOID}
    if not values or max(values) == 0 or max(values) > VOID:
        raise DataError(f"data={str(folder)!r}: masks of {sorted(values)}, it takes 0 to 254")
    return tuple(f"class {value}" for value in range(max(values) + 1))


def _load_voc(root: Path) -> Splits:
    try:
        root.mkdir(parents=True, exist_ok=True)
        train, val = (
            VOCMasks(datasets.VOCSegmentation(str(root), image_set=part, download=True))
            for part in ("train", "val")
        )
    except (OSError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise DataError(
            f"data='voc': it is not in {str(root)!r} and could not be downloaded ({reason})"
        ) from error
    return Splits("voc", train, val)
