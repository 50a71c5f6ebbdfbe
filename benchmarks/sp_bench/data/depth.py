"""Images with depth: folders of images and depth files, or the demo."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from sp_bench.data.array_files import read_layout
from sp_bench.data.dataset import DataError, Splits
from sp_bench.data.demo import missing_source
from sp_bench.data.dense_dataset import DemoValues, FileValues, find_demo, find_pairs
from sp_bench.data.segmentation_masks import read_mask

_UNIT_FILE = "unit.txt"
_MILLIMETRE = 0.001


class FileDepths(FileValues):
    """Images and depths from files.

    Args:
        images: (N,) image files.
        depths: (N,) files: ``.npy`` in metres, ``.png`` of 16 bits in units.
        unit: unit of a PNG in metres; None: millimetres, in PNGs of 16 bits.
        layout: layout of images that are arrays, as for `channel_axis`.
    """

    def __init__(
        self, images: list[str], depths: list[str], unit: float | None, layout: str | None = None
    ) -> None:
        super().__init__(images, depths, layout)
        self._unit = unit

    def read(self, path: str) -> np.ndarray:
        """Depths in a file, in metres; 0 where unknown."""
        metres = _read_array(path) if path.endswith(".npy") else self._read_png(path)
        return np.where(np.isfinite(metres) & (metres > 0), metres, 0).astype(np.float32)

    def _read_png(self, path: str) -> np.ndarray:
        if self._unit is None:
            # 8 bits of millimetres reach 0.26 m: they are in another unit.
            expected = f"16 bits in millimetres, or the unit in metres in {_UNIT_FILE}"
            return read_mask(path, ("I", "I;16"), expected) * _MILLIMETRE
        return read_mask(path) * self._unit


def load_depths(source: str | None, shared: Splits | None) -> Splits:
    """Images with depth.

    A depth file is ``.npy`` in metres, or a PNG of 16 bits in millimetres; ``unit.txt`` in the
    folder holds another unit in metres, such as 0.00390625 for KITTI's, also of 8 bits. 0 is
    unknown.

    Args:
        source: ``demo``, or a folder with ``train``, ``traindepth``, ``test`` (or ``val``) and
            ``testdepth``; None: the demo, if it is the shared source.
        shared: images of all tasks.

    Returns:
        Splits of `DenseDataset`.

    Raises:
        DataError: there is no source, or it cannot be used.
    """
    if demo := find_demo(source, shared):
        train, test = (DemoValues(part, part.depth) for part in demo)
        return Splits("demo", train, test)
    if source is None:
        raise missing_source("images with depth: demo, or a folder with train, traindepth", shared)
    folder = Path(source).expanduser()
    pairs = find_pairs(folder, "depth", (".png", ".npy"))
    unit, layout = _read_unit(folder), read_layout(folder)
    parts = [FileDepths(*pairs[part], unit, layout) for part in ("train", "test")]
    return Splits(folder.name, parts[0], parts[1])


def _read_unit(folder: Path) -> float | None:
    path = folder / _UNIT_FILE
    if not path.exists():
        return None
    text = path.read_text().strip()
    try:
        unit = float(text)
    except ValueError:
        unit = 0
    if unit <= 0:
        raise DataError.of(folder, f"{_UNIT_FILE} has {text!r}, it takes metres above 0")
    return unit


def _read_array(path: str) -> np.ndarray:
    try:
        array: np.ndarray = np.load(path, allow_pickle=False)  # a file is untrusted input
    except (OSError, ValueError) as error:
        raise DataError(f"{path!r}: cannot be read: {error}") from error
    return array
