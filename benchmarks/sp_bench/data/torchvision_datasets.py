"""Data sets of torchvision by name: one table with the arguments of each."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torchvision import datasets

from sp_bench.data.dataset import DataError, ImageDataset, Splits
from sp_bench.data.image_files import to_rgb


@dataclass(frozen=True)
class CatalogueEntry:
    """How one data set of torchvision is constructed.

    Attributes:
        dataset: name of its class in ``torchvision.datasets``.
        train: arguments of each part of the training split.
        test: arguments of the test split.
        common: arguments of both.
        download: whether torchvision can download it.
        labelled: whether its training images have classes.
    """

    dataset: str
    train: tuple[dict[str, Any], ...] = ({"split": "train"},)
    test: dict[str, Any] = field(default_factory=lambda: {"split": "test"})
    common: dict[str, Any] = field(default_factory=dict)
    download: bool = True
    labelled: bool = True


_FLAG: dict[str, Any] = {"train": ({"train": True},), "test": {"train": False}}
_TRAINVAL: dict[str, Any] = {"train": ({"split": "trainval"},)}
_TRAIN_AND_VAL: dict[str, Any] = {"train": ({"split": "train"}, {"split": "val"})}

CATALOGUE: dict[str, CatalogueEntry] = {
    "cifar10": CatalogueEntry("CIFAR10", **_FLAG),
    "cifar100": CatalogueEntry("CIFAR100", **_FLAG),
    "dtd": CatalogueEntry("DTD", **_TRAIN_AND_VAL),
    "fashionmnist": CatalogueEntry("FashionMNIST", **_FLAG),
    "fgvcaircraft": CatalogueEntry("FGVCAircraft", **_TRAINVAL),
    "flowers102": CatalogueEntry("Flowers102", **_TRAIN_AND_VAL),
    "food101": CatalogueEntry("Food101"),
    "gtsrb": CatalogueEntry("GTSRB"),
    "imagenette": CatalogueEntry("Imagenette", test={"split": "val"}, common={"size": "160px"}),
    "oxfordiiitpet": CatalogueEntry("OxfordIIITPet", **_TRAINVAL),
    "stanfordcars": CatalogueEntry("StanfordCars", download=False),  # its address is gone
    "stl10": CatalogueEntry("STL10"),
    "stl10unlabeled": CatalogueEntry("STL10", train=({"split": "unlabeled"},), labelled=False),
    "svhn": CatalogueEntry("SVHN"),
}


class TorchvisionDataset(ImageDataset):
    """One or more parts of a torchvision data set, concatenated.

    Args:
        parts: torchvision data sets of the same classes, without transforms.

    >>> from types import SimpleNamespace
    >>> part = SimpleNamespace(targets=[0, 1], classes=["cat", "dog"])
    >>> TorchvisionDataset([part, part]).labels.tolist()
    [0, 1, 0, 1]
    """

    def __init__(self, parts: Sequence[Any]) -> None:
        self._parts = tuple(parts)
        labels = [_labels(part) for part in self._parts]
        self._ends = np.cumsum([len(part_labels) for part_labels in labels])
        self.labels = torch.from_numpy(np.concatenate(labels))
        if self.labels.max() < 0:  # torchvision's mark of images without classes
            self.labels, self.classes = torch.zeros_like(self.labels), ("image",)
            return
        names = getattr(self._parts[0], "classes", range(int(self.labels.max()) + 1))
        # Imagenette names each class by a tuple of synonyms.
        self.classes = tuple(str(n[0]) if isinstance(n, tuple) else str(n) for n in names)

    def image(self, index: int) -> Image.Image:
        part = int(np.searchsorted(self._ends, index, side="right"))
        start = int(self._ends[part - 1]) if part else 0
        image: Image.Image = self._parts[part][index - start][0]
        return to_rgb(image)


def load_torchvision(name: str, *, root: Path) -> Splits:
    """Load a data set of the catalogue, and download it first if it is missing.

    Args:
        name: key of ``CATALOGUE``.
        root: folder of torchvision's data sets.

    Returns:
        The two splits of torchvision; ``train`` and ``val`` are joined where there are both.

    Raises:
        DataError: it is missing and could not be downloaded.
    """
    entry = CATALOGUE[name]
    build = getattr(datasets, entry.dataset, None)
    if build is None:
        raise DataError.of(name, f"this torchvision has no {entry.dataset}; update it")

    with download_to(root, name):
        *train, test = (
            build(str(root), download=entry.download, **entry.common, **part)
            for part in (*entry.train, entry.test)
        )
    return Splits(name, TorchvisionDataset(train), TorchvisionDataset([test]))


@contextlib.contextmanager
def download_to(root: Path, name: str) -> Iterator[None]:
    """Make ``root``, and turn errors of a download into a line about the data set ``name``.

    Raises:
        DataError: the block raised an error of the file system, the network or torchvision.
    """
    try:
        root.mkdir(parents=True, exist_ok=True)
        yield
    except (OSError, RuntimeError) as error:  # a network error is an OSError (URLError)
        reason = " ".join(str(error).split())
        raise DataError.of(
            name,
            f"it is not in {str(root)!r} and could not be downloaded ({reason}); it takes a "
            "network, or the files of torchvision put there by hand",
        ) from error


def _labels(part: Any) -> np.ndarray:
    """Labels of a torchvision data set, whose attribute has one of several names."""
    for name in ("targets", "labels", "_labels"):
        if hasattr(part, name):
            return np.asarray(getattr(part, name), dtype=np.int64)
    return np.asarray([label for _, label in part._samples], dtype=np.int64)
