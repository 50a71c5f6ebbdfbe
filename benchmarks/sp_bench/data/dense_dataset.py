"""Images with a value for each pixel: which class is seen there, or how far away it is."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from sp_bench.data.dataset import DataError, ImageDataset, Splits
from sp_bench.data.demo import DemoDataset, load_demo
from sp_bench.data.image_files import find_files, open_image

TEST_NAMES = ("test", "val", "validation")
VOID = 255  # of class masks: a pixel that does not count


class DenseDataset(ImageDataset):
    """Images that have a value for each pixel.

    Attributes:
        source: the set that features are kept by: two sets of values of the same images share
            their features.
        names: of the classes of a mask, by value; empty where the values are depths.
    """

    source: ImageDataset
    names: tuple[str, ...] = ()

    @abstractmethod
    def values(self, index: int) -> np.ndarray:
        """Of the pixels of an image, (H, W).

        Classes as uint8, in ``[0, len(names))`` or ``VOID``; or depths as float32 in metres, 0
        where they are not known.
        """


class DemoValues(DenseDataset):
    """The demo's images with one of the values that it knows of each pixel.

    Args:
        source: the demo's images.
        read: from the index of an image to its values.
        names: of classes.

    >>> demo = DemoDataset(2)
    >>> DemoValues(demo, demo.depth).values(0).shape
    (96, 96)
    """

    def __init__(
        self,
        source: DemoDataset,
        read: Callable[[int], np.ndarray],
        names: tuple[str, ...] = (),
    ) -> None:
        self.source, self.names = source, names
        self.labels, self.classes = source.labels, source.classes
        self._read = read

    def image(self, index: int) -> Image.Image:
        return self.source.image(index)

    def values(self, index: int) -> np.ndarray:
        return self._read(index)


class FileValues(DenseDataset):
    """Images and values from files; what a file means is for a subclass to say.

    Args:
        images: (N,) files.
        values: (N,) files, in the same order; PNG or npy.

    Raises:
        DataError: one is not as large as its image.
    """

    def __init__(self, images: Sequence[str], values: Sequence[str]) -> None:
        self.source = self
        self._images, self._values = list(images), list(values)
        for image, path in zip(self._images, self._values, strict=True):
            _check_size(image, path)
        self.labels = torch.zeros(len(self._images), dtype=torch.int64)
        self.classes = ("image",)

    def image(self, index: int) -> Image.Image:
        return open_image(self._images[index])

    def values(self, index: int) -> np.ndarray:
        return self.read(self._values[index])

    def read(self, path: str) -> np.ndarray:
        """The values of a file."""
        raise NotImplementedError


def find_pairs(
    folder: Path, end: str, endings: tuple[str, ...]
) -> dict[str, tuple[list[str], list[str]]]:
    """Images and the files of their values, by split, laid out as CamVid is.

    Args:
        folder: with ``train`` and ``train<end>``, and ``test`` (or ``val``, ``validation``) and
            its own; a file of values has the name of its image.
        end: such as ``annot``.
        endings: of files of values.

    Returns:
        ``train`` and ``test``, each with the files of images and of values in one order.

    Raises:
        DataError: a folder is missing or empty, or an image has no values.
    """
    where = f"data={str(folder)!r}"
    if not folder.is_dir():
        raise DataError(f"{where}: the folder does not exist")
    test = next((name for name in TEST_NAMES if (folder / name).is_dir()), None)
    if not (folder / "train").is_dir() or test is None:
        raise DataError(f"{where}: it takes train/ and train{end}/, test/ (or val/) and test{end}/")
    return {
        split: _paired(folder, name, end, endings)
        for split, name in (("train", "train"), ("test", test))
    }


def _paired(
    folder: Path, name: str, end: str, endings: tuple[str, ...]
) -> tuple[list[str], list[str]]:
    where = f"data={str(folder)!r}"
    images, values = find_files(folder / name), folder / f"{name}{end}"
    if not images:
        raise DataError(f"{where}: no images in {name}/")
    if not values.is_dir():
        raise DataError(f"{where}: no folder {name}{end}/ beside {name}/")
    known = {path.stem: str(path) for path in values.iterdir() if path.suffix.lower() in endings}
    missing = [path for path in images if Path(path).stem not in known]
    if missing:
        stem = Path(missing[0]).stem
        raise DataError(
            f"{where}: no {name}{end}/{stem}{' or '.join(endings)} for {name}/"
            f"{Path(missing[0]).name} ({len(missing)} such in all)"
        )
    return images, [known[Path(path).stem] for path in images]


def _check_size(image_path: str, values: str) -> None:
    try:
        with Image.open(image_path) as image:
            width, height = image.size
        if values.endswith(".npy"):
            shape = np.load(values, mmap_mode="r", allow_pickle=False).shape
        else:
            with Image.open(values) as image:
                shape = image.size[::-1]
    except (OSError, ValueError) as error:
        raise DataError(f"{image_path!r}, {values!r}: cannot be read: {error}") from error
    if shape != (height, width):
        raise DataError(
            f"{values!r}: of {shape} for an image of {width} x {height}; it takes "
            f"{(height, width)}, a value for each pixel"
        )


def demo_of(given: str | None, main: Splits | None) -> tuple[DemoDataset, DemoDataset] | None:
    """The demo's two sets, where it was asked for, by itself or as the images of all tasks."""
    if given == "demo" and not _is_demo(main):
        main = load_demo()
    if main is None or given not in (None, "demo") or not _is_demo(main):
        return None
    train, test = main.train, main.test
    assert isinstance(train, DemoDataset) and isinstance(test, DemoDataset)
    return train, test


def _is_demo(splits: Splits | None) -> bool:
    return splits is not None and isinstance(splits.train, DemoDataset)
