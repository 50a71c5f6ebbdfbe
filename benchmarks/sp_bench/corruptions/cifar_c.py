"""Corrupted images from files in the layout of CIFAR-10-C: ``NAME.npy`` and ``labels.npy``."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sp_bench.corruptions import NAMES
from sp_bench.corruptions.severities import SEVERITIES
from sp_bench.data.dataset import DataError
from sp_bench.data.image_files import resize_and_center_crop


class CorruptedFiles:
    """Images in a folder such as ``CIFAR-10-C``; a file is opened at each access.

    Each ``NAME.npy`` contains (5 N, H, W, 3) uint8, the five severities one after the other, and
    ``labels.npy`` the (5 N,) labels, in the order of the class names.

    Args:
        folder: folder of the 15 files and the labels; other files are ignored.
        num_classes: number of the probe's classes.

    Attributes:
        labels: (N,) int64, of one severity.

    Raises:
        DataError: a file is missing, or its shape or labels are wrong.
    """

    def __init__(self, folder: Path, num_classes: int) -> None:
        self._folder = folder
        labels = self._read("labels")
        count, remainder = divmod(len(labels), len(SEVERITIES))
        if remainder or not count or labels.ndim != 1:
            raise self._error("labels.npy", f"{labels.shape}", "(5 N,), five severities in turn")
        self.labels = torch.from_numpy(labels[:count].astype(np.int64))
        largest = int(self.labels.max())
        if largest >= num_classes:
            raise self._error("labels.npy", f"label {largest}", f"{num_classes} classes")
        for name in NAMES:
            shape = self._read(name).shape
            if shape[0] != len(labels) or len(shape) != 4 or shape[-1] != 3:
                raise self._error(f"{name}.npy", str(shape), f"({len(labels)}, H, W, 3)")

    def images(self, name: str, severity: int, indices: Tensor, side: int) -> Tensor:
        """Images at ``indices`` (m,) of a corruption at a severity, (m, 3, side, side), uint8."""
        start = (severity - 1) * len(self.labels)
        pixels = self._read(name)[start + indices.numpy()]
        images = torch.from_numpy(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)))
        return resize_and_center_crop(images, side)

    def _read(self, name: str) -> np.ndarray:
        path = self._folder / f"{name}.npy"
        try:
            # Without pickle: a file is untrusted input.
            array: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError) as error:
            problem = "is no array" if path.exists() else "is missing"
            text = f"{name}.npy {problem}; it takes labels.npy and a file for each corruption"
            raise DataError.of(self._folder, text) from error
        return array

    def _error(self, name: str, got: str, takes: str) -> DataError:
        return DataError.of(self._folder, f"{name} has {got}, it takes {takes}")
