"""The demo: images made by the program, the same everywhere, with part masks and depth."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image

from sp_bench.data.dataset import DataError, ImageDataset, Splits
from sp_bench.data.render import RenderedScene, render_scene
from sp_bench.data.scene import SIDE
from sp_bench.data.staging import stage
from sp_bench.data.world import PART_NAMES, TOYS

DEMO_SIZE = 3000
_SPLITS = ("train", "test")
_KINDS = [(toy, fine) for fine in range(len(TOYS[0].changes)) for toy in range(len(TOYS))]


class DemoDataset(ImageDataset):
    """Toys in scenes, rendered when the data set is constructed.

    Image ``i`` depends only on the seed, the split and ``i``. The classes take turns, so the first
    n images hold them equally often, and likewise the fine classes.

    Args:
        count: number of images.
        split: ``train`` or ``test``, which have no image in common.
        seed: seed of the images, at least 0.

    Attributes:
        labels: (N,) int64, class of each image.
        classes: names of the classes.
        fine_labels: (N,) int64, fine class of each image.
        fine_classes: names of the fine classes.
        part_names: names of the parts: value k of a part mask is ``part_names[k - 1]``.

    Raises:
        DataError: the seed or the count is negative, or the split is unknown.

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
            self._images[index] = self._render(index).image

    def image(self, index: int) -> Image.Image:
        """Image at ``index``, 96 x 96, in RGB."""
        return Image.fromarray(self._images[index])

    def part_mask(self, index: int) -> np.ndarray:
        """Visible part of the toy in each pixel.

        Args:
            index: position in ``[-N, N)``.

        Returns:
            (96, 96) uint8: kind of the part, from 1; 0 for none, and for a part of no toy.
        """
        return self._render(index).part_mask

    def depth(self, index: int) -> np.ndarray:
        """Distance of the visible surface in each pixel.

        Args:
            index: position in ``[-N, N)``.

        Returns:
            (96, 96) float32 in metres, above 0 and at most 60, the distance of the sky.
        """
        return self._render(index).depth

    def _render(self, index: int) -> RenderedScene:
        index = range(len(self))[index]
        toy, fine = _KINDS[index % len(_KINDS)]
        rng = np.random.default_rng(np.random.SeedSequence((*self._key, index)))
        return render_scene(stage(TOYS[toy].build(fine), rng))


def load_demo(*, seed: int = 0, size: int | None = None, limit: int | None = None) -> Splits:
    """Make the two splits of the demo.

    Args:
        seed: seed of the images, at least 0.
        size: number of training images, 3000 by default; a third as many test images are made.
        limit: largest number of training images, the first of ``size``.

    Returns:
        Two `DemoDataset` with every class equally often.

    Raises:
        DataError: there are too few images for every class to be in both splits.

    >>> splits = load_demo(size=30)
    >>> len(splits.train), len(splits.test)
    (30, 10)
    """
    size = DEMO_SIZE if size is None else size
    smallest = 3 * len(TOYS)
    if size < smallest:
        raise DataError(f"size={size}: the demo takes at least {smallest}, for {len(TOYS)} classes")
    count = size if limit is None else min(size, limit)
    if count < len(TOYS):
        raise DataError(f"limit={limit}: it takes at least one for each of {len(TOYS)} classes")
    return Splits("demo", DemoDataset(count, "train", seed), DemoDataset(size // 3, "test", seed))
