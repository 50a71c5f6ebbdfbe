"""The types that every source of images returns: `ImageDataset` and `Splits`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset


class DataError(ValueError):
    """Data that cannot be used; the message is one line that gives the reason and the remedy."""

    @classmethod
    def of(cls, source: str | Path, problem: str) -> DataError:
        """Error of one source of images.

        >>> raise DataError.of("holiday", "the folder does not exist")
        Traceback (most recent call last):
        sp_bench.data.dataset.DataError: data='holiday': the folder does not exist
        """
        return cls(f"data={str(source)!r}: {problem}")


class ImageDataset(Dataset[tuple[Image.Image, int]], ABC):
    """Images with one class each: ``images[i]`` is ``(image, label)``.

    An image is a ``PIL.Image`` in RGB. A data set can be pickled and read from forked workers.

    Attributes:
        labels: (N,) int64, in ``[0, len(classes))``.
        classes: names of the classes, by label.

    >>> from sp_bench.data import load_data
    >>> images = load_data("demo", size=60).train
    >>> image, label = images[0]
    >>> image.size, images.labels.shape, label == int(images.labels[0])
    ((96, 96), torch.Size([60]), True)
    """

    labels: torch.Tensor
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        """Image in RGB and its label.

        Args:
            index: position in ``[-N, N)``.

        Raises:
            IndexError: the index is out of range.
        """
        index = range(len(self))[index]
        return self.image(index), int(self.labels[index])

    @abstractmethod
    def image(self, index: int) -> Image.Image:
        """Image at ``index``, in ``[0, N)``, in RGB."""


class Selection(ImageDataset):
    """A subset of a data set, in the given order.

    Args:
        images: whole data set.
        indices: (M,) positions in it, each in ``[0, len(images))``.

    >>> from sp_bench.data import load_data
    >>> whole = load_data("demo", size=60).train
    >>> Selection(whole, [5, 2]).labels.tolist() == whole.labels[[5, 2]].tolist()
    True
    """

    def __init__(self, images: ImageDataset, indices: Sequence[int] | np.ndarray) -> None:
        self._images = images
        self._indices = np.asarray(indices, dtype=np.int64)
        self.labels = images.labels[torch.from_numpy(self._indices)]
        self.classes = images.classes

    def image(self, index: int) -> Image.Image:
        return self._images.image(int(self._indices[index]))


@dataclass(frozen=True)
class Splits:
    """Training images and test images of one source.

    Attributes:
        name: name of the source in tables and reports.
        train: training images.
        test: held-out images, with the same classes.
        skipped: paths of unreadable files that were left out.

    >>> from sp_bench.data import load_data
    >>> splits = load_data("demo", size=60)
    >>> splits.name, len(splits.train), len(splits.test), splits.skipped
    ('demo', 60, 20, ())
    """

    name: str
    train: ImageDataset
    test: ImageDataset
    skipped: tuple[str, ...] = ()

    def summary(self) -> dict[str, object]:
        """Name, classes, sizes and skipped files, for the JSON of a report."""
        return {
            "name": self.name,
            "classes": list(self.train.classes),
            "train": len(self.train),
            "test": len(self.test),
            "skipped": list(self.skipped),
        }
