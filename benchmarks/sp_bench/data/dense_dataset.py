"""Images with a value for each pixel: its class or its depth."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from sp_bench.data.dataset import DataError, ImageDataset, Splits
from sp_bench.data.demo import DemoDataset, load_demo
from sp_bench.data.image_files import read_image
from sp_bench.data.image_folder import TEST_NAMES
from sp_bench.data.image_kind import common_kind, read_header, read_orientation
from sp_bench.data.image_listing import find_files

VOID = 255  # value of a class mask for a pixel that does not count
_TURNED = range(2, 9)  # EXIF orientations in which an image is rotated or flipped when it is read


class DenseDataset(ImageDataset):
    """Images that have a value for each pixel.

    Attributes:
        source: key under which features are cached: two data sets with values of the same images
            share their features.
        names: names of the classes of a mask, by value; empty for depths.
    """

    source: ImageDataset
    names: tuple[str, ...] = ()

    @abstractmethod
    def values(self, index: int) -> np.ndarray:
        """Values of the pixels of an image, (H, W).

        Classes as uint8, in ``[0, len(names))`` or ``VOID``; or depths as float32 in metres, 0
        where unknown.
        """


class DemoValues(DenseDataset):
    """The demo's images with their part masks or their depths.

    Args:
        source: images of the demo.
        read: function from the index of an image to its values.
        names: names of the classes.

    >>> demo = DemoDataset(2)
    >>> DemoValues(demo, demo.depth).values(0).shape
    (64, 64)
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

    def image(self, index: int) -> Any:
        return self.source.image(index)

    def values(self, index: int) -> np.ndarray:
        return self._read(index)


class FileValues(DenseDataset):
    """Images and values from files; a subclass defines how a file is read.

    Args:
        images: (N,) image files.
        values: (N,) files of values in the same order, PNG or npy.
        layout: layout of images that are arrays, as for `channel_axis`.

    Raises:
        DataError: the images are of different kinds, the size of a file of values differs from
            that of its image, or an image has an EXIF orientation.
    """

    def __init__(
        self, images: Sequence[str], values: Sequence[str], layout: str | None = None
    ) -> None:
        self.source = self
        self._images, self._values, self._layout = list(images), list(values), layout
        self.kind = common_kind(self._images, layout)
        for image, path in zip(self._images, self._values, strict=True):
            _check_pair(image, path, layout)
        self.labels = torch.zeros(len(self._images), dtype=torch.int64)
        self.classes = ("image",)

    def image(self, index: int) -> Any:
        return read_image(self._images[index], self.kind, self._layout)

    def values(self, index: int) -> np.ndarray:
        return self.read(self._values[index])

    @abstractmethod
    def read(self, path: str) -> np.ndarray:
        """Values in a file, (H, W), as for `DenseDataset.values`."""


def find_pairs(
    folder: Path, suffix: str, endings: tuple[str, ...]
) -> dict[str, tuple[list[str], list[str]]]:
    """Image files and files of values by split, in the layout of CamVid.

    Args:
        folder: folder with ``train`` and ``train<suffix>``, and ``test`` (or ``val``,
            ``validation``) and ``test<suffix>``; a file of values has the name of its image.
        suffix: suffix of the folders of values, such as ``annot``.
        endings: endings of files of values.

    Returns:
        ``train`` and ``test``, each with the image files and the files of values in one order.

    Raises:
        DataError: a folder is missing or empty, or an image has no values.
    """
    if not folder.is_dir():
        raise DataError.of(folder, "the folder does not exist")
    test = next((name for name in TEST_NAMES if (folder / name).is_dir()), None)
    if not (folder / "train").is_dir() or test is None:
        raise DataError.of(
            folder, f"it takes train/ and train{suffix}/, test/ (or val/) and test{suffix}/"
        )
    return {
        "train": _pair_files(folder, "train", suffix, endings),
        "test": _pair_files(folder, test, suffix, endings),
    }


def _pair_files(
    folder: Path, name: str, suffix: str, endings: tuple[str, ...]
) -> tuple[list[str], list[str]]:
    images, values = find_files(folder / name), folder / f"{name}{suffix}"
    if not images:
        raise DataError.of(folder, f"no images in {name}/")
    if not values.is_dir():
        raise DataError.of(folder, f"no folder {name}{suffix}/ next to {name}/")
    by_stem = {path.stem: str(path) for path in values.iterdir() if path.suffix.lower() in endings}
    missing = [path for path in images if Path(path).stem not in by_stem]
    if missing:
        stem = Path(missing[0]).stem
        raise DataError.of(
            folder,
            f"no {name}{suffix}/{stem}{' or '.join(endings)} for {name}/{Path(missing[0]).name} "
            f"({len(missing)} such in all)",
        )
    return images, [by_stem[Path(path).stem] for path in images]


def _check_pair(image_path: str, values_path: str, layout: str | None) -> None:
    try:
        orientation = read_orientation(image_path)
        _, (width, height) = read_header(image_path, layout)
        if values_path.endswith(".npy"):
            shape = np.load(values_path, mmap_mode="r", allow_pickle=False).shape
        else:
            with Image.open(values_path) as image:
                shape = image.size[::-1]
    except (OSError, ValueError) as error:
        raise DataError(f"{image_path!r}, {values_path!r}: cannot be read: {error}") from error
    # Its values can be of the image as it is stored or as it is shown, and sizes rarely tell.
    if orientation in _TURNED:
        raise DataError(
            f"{image_path!r}: has EXIF orientation {orientation}; next to masks or depths it takes "
            "an image that is saved upright, without this tag"
        )
    if shape != (height, width):
        raise DataError(
            f"{values_path!r}: has shape {shape} for an image of {width} x {height}; it takes "
            f"{(height, width)}, a value for each pixel"
        )


def find_demo(source: str | None, shared: Splits | None) -> tuple[DemoDataset, DemoDataset] | None:
    """Training and test images of the demo, if it is the task's source or the shared one."""
    if source == "demo" and not _is_demo(shared):
        shared = load_demo()
    if shared is None or source not in (None, "demo") or not _is_demo(shared):
        return None
    train, test = shared.train, shared.test
    assert isinstance(train, DemoDataset) and isinstance(test, DemoDataset)
    return train, test


def _is_demo(splits: Splits | None) -> bool:
    return splits is not None and isinstance(splits.train, DemoDataset)
