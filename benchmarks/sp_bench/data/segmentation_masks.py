"""Images with class masks: folders in the layout of CamVid, Pascal VOC by name, or the demo."""

from __future__ import annotations

from collections.abc import Container
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torchvision import datasets

from sp_bench.data.array_files import read_layout
from sp_bench.data.dataset import DataError, Splits
from sp_bench.data.demo import missing_source
from sp_bench.data.dense_dataset import (
    VOID,
    DemoValues,
    DenseDataset,
    FileValues,
    find_demo,
    find_pairs,
)
from sp_bench.data.image_files import to_rgb
from sp_bench.data.load import DOWNLOAD_ROOT
from sp_bench.data.torchvision_datasets import download_to

_MODES = ("L", "P", "I", "I;16")
_NAMES_FILE = "classes.txt"
_VOC = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair",
    "cow", "dining table", "dog", "horse", "motorbike", "person", "potted plant", "sheep", "sofa",
    "train", "monitor",
)  # fmt: skip


class FileMasks(FileValues):
    """Images and masks from files.

    Args:
        images: (N,) image files.
        masks: (N,) files of one channel; values that are no class are void.
        names: names of the classes, by value.
        layout: layout of images that are arrays, as for `channel_axis`.
    """

    def __init__(
        self,
        images: list[str],
        masks: list[str],
        names: tuple[str, ...],
        layout: str | None = None,
    ) -> None:
        super().__init__(images, masks, layout)
        self.names = names

    def read(self, path: str) -> np.ndarray:
        """Classes in a file."""
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
        return to_rgb(image)

    def values(self, index: int) -> np.ndarray:
        return np.asarray(self._dataset[index][1], np.uint8)


def load_masks(source: str | None, shared: Splits | None) -> Splits:
    """Images with class masks.

    ``classes.txt`` in a folder names the classes by value, one per line; every other value is
    void. Without it the classes are 0 to the largest value in the masks, and 255 is void.

    Args:
        source: ``demo``, ``voc``, or a folder with ``train``, ``trainannot``, ``test`` (or
            ``val``) and ``testannot``; None: the demo, if it is the shared source.
        shared: images of all tasks.

    Returns:
        Splits of `DenseDataset`.

    Raises:
        DataError: there is no source, or it cannot be used.
    """
    if demo := find_demo(source, shared):
        names = ("rest", *demo[0].part_names)
        train, test = (DemoValues(part, part.part_mask, names) for part in demo)
        return Splits("demo", train, test)
    if source is None:
        raise missing_source("images with masks: demo, voc, or a folder as CamVid's", shared)
    folder = Path(source).expanduser()
    if source.lower() == "voc" and not folder.exists():
        return _load_voc(DOWNLOAD_ROOT.expanduser())
    pairs = find_pairs(folder, "annot", (".png",))
    names = _read_names(folder, [path for _, masks in pairs.values() for path in masks])
    layout = read_layout(folder)
    parts = [FileMasks(*pairs[part], names, layout) for part in ("train", "test")]
    return Splits(folder.name, parts[0], parts[1])


def read_mask(
    path: str, modes: Container[str] = _MODES, expected: str = "one channel"
) -> np.ndarray:
    """Values of an image file of one channel, (H, W), unchanged.

    Args:
        path: image file.
        modes: PIL's modes that are read.
        expected: what these are, for the error.

    Raises:
        DataError: the file cannot be read, or is of another mode.
    """
    try:
        with Image.open(path) as image:
            if image.mode not in modes:
                raise DataError(f"{path!r}: an image of mode {image.mode}; it takes {expected}")
            return np.asarray(image)
    except OSError as error:
        raise DataError(f"{path!r}: cannot be read: {error}") from error


def _read_names(folder: Path, masks: list[str]) -> tuple[str, ...]:
    listed = folder / _NAMES_FILE
    if listed.exists():
        names = tuple(line.strip() for line in listed.read_text().splitlines() if line.strip())
        if len(names) >= 2:
            return names
        raise DataError.of(folder, f"{_NAMES_FILE} names {len(names)}, it takes two or more")
    values = {int(value) for path in masks for value in np.unique(read_mask(path))} - {VOID}
    if not values or max(values) == 0 or max(values) > VOID:
        raise DataError.of(folder, f"masks of {sorted(values)}, it takes 0 to 254")
    return tuple(f"class {value}" for value in range(max(values) + 1))


def _load_voc(root: Path) -> Splits:
    with download_to(root, "voc"):
        train, val = (
            VOCMasks(datasets.VOCSegmentation(str(root), image_set=part, download=True))
            for part in ("train", "val")
        )
    return Splits("voc", train, val)
