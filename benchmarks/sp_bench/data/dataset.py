"""What a set of images is to the benchmark, whatever it was made from."""

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


class ImageDataset(Dataset[tuple[Image.Image, int]], ABC):
    """Images with one class each: ``images[i]`` is ``(image, label)``.

    An image is a ``PIL.Image`` in RGB. A set can be pickled and read from forked workers.

    Attributes:
        labels: (N,) int64, each in ``[0, len(classes))``.
        classes: The names of the classes, by label.

    Example:
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
        """Reads one image.

        Args:
            index: In ``[-N, N)``.

        Returns:
            The image in RGB and its label.

        Raises:
            IndexError: There is no such image.
        """
        index = range(len(self))[index]
        return self.image(index), int(self.labels[index])

    @abstractmethod
    def image(self, index: int) -> Image.Image:
        """The image at ``index``, in ``[0, N)``, in RGB."""


class Selection(ImageDataset):
    """Some images of another set, in the order given.

    Args:
        images: The whole set.
        indices: (M,) which of its images, each in ``[0, len(images))``.

    Example:
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
        """The image at ``index`` of the selection, in RGB."""
        return self._images.image(int(self._indices[index]))


@dataclass(frozen=True)
class Splits:
    """A source of images, parted into what is trained on and what is held out.

    Attributes:
        name: What the source is called in tables and reports.
        train: The images to train on.
        test: The held-out images, with the same classes.
        skipped: The unreadable files that were left out, by path.

    Example:
        >>> from sp_bench.data import load_data
        >>> splits = load_data("demo", size=60)
        >>> splits.name, len(splits.train), len(splits.test), splits.skipped
        ('demo', 60, 20, ())
    """

    name: str
    train: ImageDataset
    test: ImageDataset
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
