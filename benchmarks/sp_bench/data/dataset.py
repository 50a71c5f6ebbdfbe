"""What a set of pictures is to the benchmark, whatever it was made from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset


class DataError(ValueError):
    """The data cannot be used; the message is one line that says why and what to do.

    Example:
        >>> raise DataError("data='holiday': the folder does not exist")
        Traceback (most recent call last):
        sp_bench.data.dataset.DataError: data='holiday': the folder does not exist
    """


class Pictures(Dataset[tuple[Image.Image, int]], ABC):
    """Pictures with one class each: ``pictures[i]`` is ``(picture, label)``.

    A picture is a ``PIL.Image`` in RGB. A set can be pickled and read from forked workers.

    Attributes:
        labels: (N,) int64, each in ``[0, len(classes))``.
        classes: The names of the classes, by label.

    Example:
        >>> from sp_bench.data import load_data
        >>> pictures = load_data("demo", size=60).train
        >>> picture, label = pictures[0]
        >>> picture.size, pictures.labels.shape, label == int(pictures.labels[0])
        ((96, 96), torch.Size([60]), True)
    """

    labels: torch.Tensor
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        """Reads one picture.

        Args:
            index: In ``[-N, N)``.

        Returns:
            The picture in RGB and its label.

        Raises:
            IndexError: There is no such picture.
        """
        index = range(len(self))[index]
        return self.picture(index), int(self.labels[index])

    @abstractmethod
    def picture(self, index: int) -> Image.Image:
        """The picture at ``index``, in ``[0, N)``, in RGB."""


class Selection(Pictures):
    """Some pictures of another set, in the order given.

    Args:
        pictures: The whole set.
        indices: (M,) which of its pictures, each in ``[0, len(pictures))``.

    Example:
        >>> from sp_bench.data import load_data
        >>> whole = load_data("demo", size=60).train
        >>> Selection(whole, [5, 2]).labels.tolist() == whole.labels[[5, 2]].tolist()
        True
    """

    def __init__(self, pictures: Pictures, indices: Sequence[int] | np.ndarray) -> None:
        self._pictures = pictures
        self._indices = np.asarray(indices, dtype=np.int64)
        self.labels = pictures.labels[torch.from_numpy(self._indices)]
        self.classes = pictures.classes

    def picture(self, index: int) -> Image.Image:
        """The picture at ``index`` of the selection, in RGB."""
        return self._pictures.picture(int(self._indices[index]))


@dataclass(frozen=True)
class Splits:
    """A source of pictures, parted into what is trained on and what is held out.

    Attributes:
        name: What the source is called in tables and reports.
        train: The pictures to train on.
        test: The held-out pictures, with the same classes.
        skipped: The unreadable files that were left out, by path.

    Example:
        >>> from sp_bench.data import load_data
        >>> splits = load_data("demo", size=60)
        >>> splits.name, len(splits.train), len(splits.test), splits.skipped
        ('demo', 60, 20, ())
    """

    name: str
    train: Pictures
    test: Pictures
    skipped: tuple[str, ...] = ()

    def told(self) -> dict[str, object]:
        """What a report says of them, as it stands in JSON."""
        return {
            "name": self.name,
            "classes": list(self.train.classes),
            "train": len(self.train),
            "test": len(self.test),
            "skipped": list(self.skipped),
        }
