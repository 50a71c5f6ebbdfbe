"""Corrupted images from files, laid out as CIFAR-10-C is: ``NAME.npy`` and ``labels.npy``."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sp_bench.corruptions import NAMES
from sp_bench.corruptions.severities import SEVERITIES
from sp_bench.data.dataset import DataError


class CorruptedFiles:
    """The images of a folder such as ``CIFAR-10-C``; each file is opened when it is asked for.

    Each ``NAME.npy`` holds (5 N, H, W, 3) uint8, the five severities one after the other, and
    ``labels.npy`` the (5 N,) labels, in the order of the classes' names.

    Args:
        folder: of the 15 files and the labels; files of other corruptions are passed over.
        classes: how many classes the probe tells apart.

    Attributes:
        labels: (N,) int64, of one severity.

    Raises:
        DataError: a file is missing or does not fit the others.
    """

    def __init__(self, folder: Path, classes: int) -> None:
        self._folder = folder
        labels = self._read("labels")
        count, rest = divmod(len(labels), len(SEVERITIES))
        if rest or not count or labels.ndim != 1:
            raise self._error("labels.npy", f"{labels.shape}", "(5 N,), five severities in turn")
        self.labels = torch.from_numpy(labels[:count].astype(np.int64))
        if int(self.labels.max()) >= classes:
            raise self._error("labels.npy", f"label {int(self.labels.max())}", f"{classes} classes")
        for name in NAMES:
            shape = self._read(name).shape
            if shape[0] != len(labels) or len(shape) != 4 or shape[-1] != 3:
                raise self._error(f"{name}.npy", str(shape), f"({len(labels)}, H, W, 3)")

    def images(self, name: str, severity: int, few: Tensor) -> Tensor:
        """Some images of one corruption at one severity, (m, 3, H, W), uint8."""
        start = (severity - 1) * len(self.labels)
        pixels = self._read(name)[start + few.numpy()]
        return torch.from_numpy(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)))

    def _read(self, name: str) -> np.ndarray:
        path = self._folder / f"{name}.npy"
        try:
            # Not pickled: a file is untrusted input.
            read: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError) as error:
            what = "is no array" if path.exists() else "is missing"
            raise DataError(
                f"data={str(self._folder)!r}: {name}.npy {what}; it takes labels.npy and a file "
                "for each of the 15 corruptions, as CIFAR-10-C has them"
            ) from error
        return read

    def _error(self, name: str, got: str, takes: str) -> DataError:
        return DataError(f"data={str(self._folder)!r}: {name} has {got}, it takes {takes}")
