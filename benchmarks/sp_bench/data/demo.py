"""The demo: images made by the program, the same everywhere, with part masks and depth."""

from __future__ import annotations

import copy

import numpy as np
import torch
from PIL import Image

from sp_bench.data.dataset import DataError, ImageDataset, Selection, Splits
from sp_bench.demo.cues import draw_cue
from sp_bench.demo.shapes import SHAPES
from sp_bench.demo.world import PART_NAMES, SIZES, THINGS, Scene, draw_scene

DEMO_SIZE = 1500
SIDE = 64  # of an image in pixels
_SPLITS = ("train", "test")
_CUES_KEY = 30_001
_TRAIN_CUES, _TEST_CUES = 600, 300


class DemoDataset(ImageDataset):
    """Things in scenes, drawn when the data set is constructed.

    Image ``i`` depends only on the seed, the split, the side and ``i``. The classes take turns, so
    the first n images hold them equally often, and likewise the fine classes.

    Args:
        count: number of images.
        split: ``train`` or ``test``, which have no image in common.
        seed: seed of the images, at least 0.
        side: side of an image in pixels, default 64.

    Attributes:
        labels: (N,) int64, class of each image.
        classes: names of the classes.
        part_names: names of the parts: value k of a part mask is ``part_names[k - 1]``.

    Raises:
        DataError: the seed or the count is negative, or the split is unknown.

    >>> images = DemoDataset(4)
    >>> [images.classes[label] for label in images.labels]
    ['house', 'tree', 'car', 'boat']
    >>> images.part_mask(0).shape, bool((images.depth(0) > 0).all())
    ((64, 64), True)
    """

    classes: tuple[str, ...] = tuple(THINGS)
    part_names: tuple[str, ...] = PART_NAMES

    def __init__(self, count: int, split: str = "train", seed: int = 0, side: int = SIDE) -> None:
        if split not in _SPLITS:
            raise DataError(f"split={split!r}: it takes 'train' or 'test'")
        if seed < 0:
            raise DataError(f"seed={seed}: it takes a whole number, at least 0")
        if count < 0:
            raise DataError(f"count={count}: it takes a number of images, at least 0")
        self._key, self._side = (seed, _SPLITS.index(split)), side
        self.labels = torch.arange(count) % len(THINGS)
        self._sizes = torch.arange(count) // len(THINGS) % len(SIZES)
        self._images = np.empty((count, side, side, 3), np.uint8)
        for index in range(count):
            self._images[index] = self._draw(index).image

    def fine_grained(self) -> DemoDataset:
        """The same images in 27 fine classes: each thing with its last part in three sizes.

        >>> DemoDataset(4).fine_grained().labels.tolist()
        [0, 3, 6, 9]
        """
        fine = copy.copy(self)
        fine.labels = self.labels * len(SIZES) + self._sizes
        fine.classes = tuple(
            f"{thing}, {size} {parts[-1].name}" for thing, parts in THINGS.items() for size in SIZES
        )
        return fine

    def image(self, index: int) -> Image.Image:
        """Image at ``index``, in RGB."""
        return Image.fromarray(self._images[index])

    def part_mask(self, index: int) -> np.ndarray:
        """Visible part in each pixel of the image at ``index`` in ``[-N, N)``, as in `Scene`."""
        return self._draw(index).part_mask

    def depth(self, index: int) -> np.ndarray:
        """Distance of each pixel of the image at ``index`` in ``[-N, N)``, as in `Scene`."""
        return self._draw(index).depth

    def _draw(self, index: int) -> Scene:
        index = range(len(self))[index]
        rng = np.random.default_rng(np.random.SeedSequence((*self._key, index)))
        return draw_scene(index % len(THINGS), int(self._sizes[index]), self._side, rng)


class DemoCues(ImageDataset):
    """Outlines of parts on plain ground, each filled with a pattern.

    Args:
        count: number of images; a multiple of 30 has every pair of classes equally often.
        conflict: whether the pattern belongs to another outline.

    Attributes:
        labels: (N,) int64, class of the outline.
        textures: (N,) int64, class of the pattern.

    >>> cues = DemoCues(30, conflict=True)
    >>> bool((cues.labels != cues.textures).all()), cues.image(0).size
    (True, (64, 64))
    """

    classes: tuple[str, ...] = tuple(SHAPES)

    def __init__(self, count: int, conflict: bool) -> None:
        kinds, index = len(SHAPES), torch.arange(count)
        self.labels = index % kinds
        step = 1 + (index // kinds) % (kinds - 1) if conflict else torch.zeros_like(index)
        self.textures = (self.labels + step) % kinds
        self._conflict = conflict

    def image(self, index: int) -> Image.Image:
        rng = np.random.default_rng((_CUES_KEY, int(self._conflict), index))
        shape, pattern = int(self.labels[index]), int(self.textures[index])
        return Image.fromarray(draw_cue(shape, pattern, SIDE, rng))


def load_demo_cues() -> Splits:
    """Training images with the pattern of their outline's class, test images with another."""
    train, test = DemoCues(_TRAIN_CUES, conflict=False), DemoCues(_TEST_CUES, conflict=True)
    return Splits("demo cues", train, test)


def load_demo(*, seed: int = 0, size: int | None = None, limit: int | None = None) -> Splits:
    """Make the two splits of the demo.

    Args:
        seed: seed of the images, at least 0.
        size: number of training images, 1500 by default; a third as many test images are made.
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
    smallest = 3 * len(THINGS)
    if size < smallest:
        raise DataError(
            f"size={size}: the demo takes at least {smallest}, for {len(THINGS)} classes"
        )
    count = size if limit is None else min(size, limit)
    if count < len(THINGS):
        raise DataError(f"limit={limit}: it takes at least one for each of {len(THINGS)} classes")
    return Splits("demo", DemoDataset(count, "train", seed), DemoDataset(size // 3, "test", seed))


def missing_source(expected: str, shared: Splits | None) -> DataError:
    """The error of a task that has no source and cannot use the images of all tasks.

    Args:
        expected: what it takes.
        shared: images of all tasks.

    >>> missing_source("images with depth", None)
    DataError('it takes images with depth')
    """
    train = shared.train if shared else None
    if isinstance(train, Selection) and isinstance(train.images, DemoDataset):
        return DataError(
            "it takes the demo without --validation, which keeps the images alone; leave the task "
            "out, or give it a source of its own, TASK=SOURCE"
        )
    return DataError(f"it takes {expected}")
