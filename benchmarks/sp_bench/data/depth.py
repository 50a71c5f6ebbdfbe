"""Images with depth: folders of image and depth, and the demo's."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from sp_bench.data.dataset import DataError, Splits
from sp_bench.data.dense_dataset import DemoValues, FileValues, demo_of, find_pairs
from sp_bench.data.segmentation_masks import read_mask

_UNIT_FILE = "unit.txt"
_MILLIMETRE = 0.001


class FileDepths(FileValues):
    """Images and depths from files.

    Args:
        images: (N,) files.
        depths: (N,) files: ``.npy`` in metres, ``.png`` of 16 bits in units.
        unit: of a PNG, in metres.
    """

    def __init__(self, images: list[str], depths: list[str], unit: float) -> None:
        super().__init__(images, depths)
        self._unit = unit

    def read(self, path: str) -> np.ndarray:
        """The metres in a file; 0 where they are not known."""
        metres = _read_array(path) if path.endswith(".npy") else read_mask(path) * self._unit
        return np.where(np.isfinite(metres) & (metres > 0), metres, 0).astype(np.float32)


def load_depths(given: str | None, main: Splits | None) -> Splits:
    """Images with depth.

    Args:
        given: ``demo``, or a folder with ``train``, ``traindepth``, ``test`` (or ``val``) and its
            own; None takes the demo's where it is what all tasks are asked about.
        main: the images of all tasks, or None.

    Returns:
        Splits of `DenseDataset`.

    Raises:
        DataError: there are none, or they cannot be used.

    A depth file is ``.npy``, in metres, or a PNG of 16 bits, in millimetres; ``unit.txt`` in the
    folder holds another unit in metres, such as 0.00390625 for KITTI's. 0 is not known.
    """
    if demo := demo_of(given, main):
        train, test = (DemoValues(part, part.depth) for part in demo)
        return Splits("demo", train, test)
    if given is None:
        raise DataError("it takes images with depth: demo, or a folder with train, traindepth")
    folder = Path(given).expanduser()
    pairs = find_pairs(folder, "depth", (".png", ".npy"))
    unit = _unit(folder)
    return Splits(folder.name, FileDepths(*pairs["train"], unit), FileDepths(*pairs["test"], unit))


def _unit(folder: Path) -> float:
    path = folder / _UNIT_FILE
    if not path.exists():
        return _MILLIMETRE
    told = path.read_text().strip()
    try:
        unit = float(told)
    except ValueError:
        unit = 0
    if unit <= 0:
        raise DataError(f"data={str(folder)!r}: {_UNIT_FILE} has {told!r}, it takes metres above 0")
    return unit


def _read_array(path: str) -> np.ndarray:
    try:
        read: np.ndarray = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise DataError(f"{path!r}: cannot be read: {error}") from error
    return read
