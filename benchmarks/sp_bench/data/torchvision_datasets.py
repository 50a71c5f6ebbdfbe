"""torchvision's data sets by name: how each is asked for, in one table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torchvision import datasets

from sp_bench.data.dataset import DataError, ImageDataset, Splits


@dataclass(frozen=True)
class Entry:
    """How one data set is asked for.

    Attributes:
        dataset: The name of its class in ``torchvision.datasets``.
        train: The arguments of each part that is trained on.
        test: The arguments of the part that is held out.
        common: Arguments of both.
        download: Whether torchvision can fetch it.
    """

    dataset: str
    train: tuple[dict[str, Any], ...] = ({"split": "train"},)
    test: dict[str, Any] = field(default_factory=lambda: {"split": "test"})
    common: dict[str, Any] = field(default_factory=dict)
    download: bool = True


_FLAG: dict[str, Any] = {"train": ({"train": True},), "test": {"train": False}}
_TRAINVAL: dict[str, Any] = {"train": ({"split": "trainval"},)}
_TRAIN_AND_VAL: dict[str, Any] = {"train": ({"split": "train"}, {"split": "val"})}

CATALOGUE: dict[str, Entry] = {
    "cifar10": Entry("CIFAR10", **_FLAG),
    "cifar100": Entry("CIFAR100", **_FLAG),
    "dtd": Entry("DTD", **_TRAIN_AND_VAL),
    "fashionmnist": Entry("FashionMNIST", **_FLAG),
    "fgvcaircraft": Entry("FGVCAircraft", **_TRAINVAL),
    "flowers102": Entry("Flowers102", **_TRAIN_AND_VAL),
    "food101": Entry("Food101"),
    "gtsrb": Entry("GTSRB"),
    "imagenette": Entry("Imagenette", test={"split": "val"}, common={"size": "160px"}),
    "oxfordiiitpet": Entry("OxfordIIITPet", **_TRAINVAL),
    "stanfordcars": Entry("StanfordCars", download=False),  # its address is gone
    "stl10": Entry("STL10"),
    "svhn": Entry("SVHN"),
}


class TorchvisionDataset(ImageDataset):
    """One or more parts of a torchvision data set, one after the other.

    Args:
        parts: torchvision data sets of the same classes, without transforms.

    Example:
        >>> from types import SimpleNamespace
        >>> part = SimpleNamespace(targets=[0, 1], classes=["cat", "dog"])
        >>> TorchvisionDataset([part, part]).labels.tolist()
        [0, 1, 0, 1]
    """

    def __init__(self, parts: Sequence[Any]) -> None:
        self._parts = tuple(parts)
        labels = [_labels(part) for part in self._parts]
        self._ends = np.cumsum([len(each) for each in labels])
        self.labels = torch.from_numpy(np.concatenate(labels))
        names = getattr(self._parts[0], "classes", range(int(self.labels.max()) + 1))
        # Imagenette gives each class as a tuple of synonyms.
        self.classes = tuple(str(n[0]) if isinstance(n, tuple) else str(n) for n in names)

    def image(self, index: int) -> Image.Image:
        """The image at ``index``, in RGB."""
        part = int(np.searchsorted(self._ends, index, side="right"))
        start = int(self._ends[part - 1]) if part else 0
        image: Image.Image = self._parts[part][index - start][0]
        return image.convert("RGB")


def load_torchvision(name: str, *, root: Path) -> Splits:
    """Loads a data set of the catalogue, and downloads it first where it is not there yet.

    Args:
        name: A key of ``CATALOGUE``.
        root: The folder where torchvision keeps its data sets.

    Returns:
        The two splits as torchvision has them; ``train`` and ``val`` are one where there are both.

    Raises:
        DataError: It is not there and could not be downloaded.
    """
    entry = CATALOGUE[name]
    build = getattr(datasets, entry.dataset, None)
    if build is None:
        raise DataError(f"data={name!r}: this torchvision has no {entry.dataset}; update it")
    try:
        root.mkdir(parents=True, exist_ok=True)
        *train, test = (
            build(str(root), download=entry.download, **entry.common, **part)
            for part in (*entry.train, entry.test)
        )
    except (OSError, RuntimeError) as error:  # a network error is an OSError (URLError)
        reason = " ".join(str(error).split())
        raise DataError(
            f"data={name!r}: it is not in {str(root)!r} and could not be downloaded ({reason}); "
            "it takes a network, or the files of torchvision put there by hand"
        ) from error
    return Splits(name, TorchvisionDataset(train), TorchvisionDataset([test]))


def _labels(part: Any) -> np.ndarray:
    """The labels of a torchvision data set, which calls them by several names."""
    for name in ("targets", "labels", "_labels"):
        if hasattr(part, name):
            return np.asarray(getattr(part, name), dtype=np.int64)
    return np.asarray([label for _, label in part._samples], dtype=np.int64)
