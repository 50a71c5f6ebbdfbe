"""The demo's images: made by the program, the same everywhere, with masks and depth."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image

from sp_bench.data.dataset import DataError, ImageDataset, Splits
from sp_bench.data.render import Drawing, draw
from sp_bench.data.scene import SIDE
from sp_bench.data.staging import stage
from sp_bench.data.world import PART_NAMES, TOYS

DEMO_SIZE = 3000
_SPLITS = ("train", "test")
_KINDS = [(toy, fine) for fine in range(len(TOYS[0].changes)) for toy in range(len(TOYS))]


class DemoDataset(ImageDataset):
    """Toys in scenes, drawn when the set is made.

    Image ``i`` depends on the seed, the split and ``i`` alone. The classes take turns, so the
    first n images hold them equally often; so do the finer classes.

    Args:
        count: How many images to make.
        split: ``train`` or ``test``; they have no image in common.
        seed: At least 0.

    Attributes:
        labels: (N,) int64, the class of each image.
        classes: The names of the classes.
        fine_labels: (N,) int64, the finer class of each image.
        fine_classes: The names of the finer classes.
        part_names: The kinds of parts: value k of a part mask is ``part_names[k - 1]``.

    Raises:
        DataError: The seed or the count is negative, or there is no such split.

    Example:
        >>> images = DemoDataset(4)
        >>> [images.classes[label] for label in images.labels]
        ['wagon', 'clown', 'lamp', 'table']
        >>> images.part_mask(0).shape, bool((images.depth(0) > 0).all())
        ((96, 96), True)
    """

    classes: tuple[str, ...] = tuple(toy.name for toy in TOYS)
    fine_classes: tuple[str, ...] = tuple(
        f"{toy.name}, {change.name}" for toy in TOYS for change in toy.changes
    )
    part_names: tuple[str, ...] = PART_NAMES

    def __init__(self, count: int, split: str = "train", seed: int = 0) -> None:
        if split not in _SPLITS:
            raise DataError(f"split={split!r}: it takes 'train' or 'test'")
        if seed < 0:
            raise DataError(f"seed={seed}: it takes a whole number, at least 0")
        if count < 0:
            raise DataError(f"count={count}: it takes a number of images, at least 0")
        self._key = (seed, _SPLITS.index(split))
        kinds = [_KINDS[index % len(_KINDS)] for index in range(count)]
        self.labels = torch.tensor([toy for toy, _ in kinds], dtype=torch.int64)
        per_toy = len(TOYS[0].changes)
        fine = [toy * per_toy + fine for toy, fine in kinds]
        self.fine_labels = torch.tensor(fine, dtype=torch.int64)
        self._images = np.empty((count, SIDE, SIDE, 3), np.uint8)
        for index in range(count):
            self._images[index] = self._draw(index).image

    def image(self, index: int) -> Image.Image:
        """The image at ``index``, 96 x 96, in RGB."""
        return Image.fromarray(self._images[index])

    def part_mask(self, index: int) -> np.ndarray:
        """Which part of the toy is seen in each pixel of an image.

        Args:
            index: In ``[-N, N)``.

        Returns:
            (96, 96) uint8: 0 for none, also where a part lies about that belongs to no toy, else
            the kind of part, from 1.
        """
        return self._draw(index).part_mask

    def depth(self, index: int) -> np.ndarray:
        """How far away what is seen in each pixel of an image is.

        Args:
            index: In ``[-N, N)``.

        Returns:
            (96, 96) float32 in metres, above 0 and at most 60, which is the sky.
        """
        return self._draw(index).depth

    def _draw(self, index: int) -> Drawing:
        index = range(len(self))[index]
        toy, fine = _KINDS[index % len(_KINDS)]
        rng = np.random.default_rng(np.random.SeedSequence((*self._key, index)))
        return draw(stage(TOYS[toy].build(fine), rng))


def load_demo(*, seed: int = 0, size: int | None = None, limit: int | None = None) -> Splits:
    """Makes the demo's two splits.

    Args:
        seed: At least 0.
        size: How many images to train on; a third of it is made to be held out.
        limit: Make at most so many to train on; fewer than ``size`` are then the first of them.

    Returns:
        Both splits as :class:`DemoDataset`, with every class equally often.

    Raises:
        DataError: There are too few images for every class to be in both splits.

    Example:
        >>> splits = load_demo(size=30)
        >>> len(splits.train), len(splits.test)
        (30, 10)
    """
    size = DEMO_SIZE if size is None else size
    least = 3 * len(TOYS)
    if size < least:
        raise DataError(f"size={size}: the demo takes at least {least}, for {len(TOYS)} classes")
    count = size if limit is None else min(size, limit)
    if count < len(TOYS):
        raise DataError(f"limit={limit}: it takes at least one for each of {len(TOYS)} classes")
    return Splits("demo", DemoDataset(count, "train", seed), DemoDataset(size // 3, "test", seed))
