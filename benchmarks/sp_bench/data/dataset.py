"""The types that every source of images returns: `ImageDataset` and `Splits`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
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


@dataclass(frozen=True)
class ImageKind:
    """What all images of a data set have in common.

    Attributes:
        channels: number of channels.
        dtype: ``uint8``, ``uint16`` or ``float``, as in the files.

    >>> str(ImageKind(13, "uint16")), ImageKind(13, "uint16").is_convertible
    ('13 channels of uint16', False)
    """

    channels: int
    dtype: str

    @property
    def is_convertible(self) -> bool:
        """Whether the images are grey or RGB of 8 bits, each of which can be made the other."""
        return self.channels in (1, 3) and self.dtype == "uint8"

    def __str__(self) -> str:
        return f"{self.channels} channel{'s' * (self.channels > 1)} of {self.dtype}"


RGB, GREY = ImageKind(3, "uint8"), ImageKind(1, "uint8")


class ImageDataset(Dataset[tuple[Any, int]], ABC):
    """Images with one class each: ``images[i]`` is ``(image, label)``.

    An image is a ``PIL.Image`` in RGB or grey (mode L), or, where ``kind`` is neither, a tensor
    (C, H, W) of uint8 or float32. A data set can be pickled and read from forked workers.

    Attributes:
        labels: (N,) int64, in ``[0, len(classes))``.
        classes: names of the classes, by label.
        kind: channels and dtype of the images, RGB by default.

    >>> from sp_bench.data import load_data
    >>> images = load_data("demo", size=60).train
    >>> image, label = images[0]
    >>> image.size, images.labels.shape, label == int(images.labels[0])
    ((64, 64), torch.Size([60]), True)
    """

    labels: torch.Tensor
    classes: tuple[str, ...]
    kind: ImageKind = RGB

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        """Image and its label.

        Args:
            index: position in ``[-N, N)``.

        Raises:
            IndexError: the index is out of range.
        """
        index = range(len(self))[index]
        return self.image(index), int(self.labels[index])

    @abstractmethod
    def image(self, index: int) -> Any:
        """Image at ``index``, in ``[0, N)``, of this data set's kind."""


class Selection(ImageDataset):
    """A subset of a data set, in the given order.

    Args:
        images: whole data set; an attribute, too.
        indices: (M,) positions in it, each in ``[0, len(images))``.

    >>> from sp_bench.data import load_data
    >>> whole = load_data("demo", size=60).train
    >>> Selection(whole, [5, 2]).labels.tolist() == whole.labels[[5, 2]].tolist()
    True
    """

    def __init__(self, images: ImageDataset, indices: Sequence[int] | np.ndarray) -> None:
        self.images = images
        self._indices = np.asarray(indices, dtype=np.int64)
        self.labels = images.labels[torch.from_numpy(self._indices)]
        self.classes = images.classes
        self.kind = images.kind

    def image(self, index: int) -> Any:
        return self.images.image(int(self._indices[index]))


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
        """Name, classes, sizes and skipped files, for the JSON of a report.

        And ``images``, the kind of the images, where it is not RGB.
        """
        kind = self.train.kind
        return {
            "name": self.name,
            **({} if kind == RGB else {"images": str(kind)}),
            "classes": list(self.train.classes),
            "train": len(self.train),
            "test": len(self.test),
            "skipped": list(self.skipped),
        }
