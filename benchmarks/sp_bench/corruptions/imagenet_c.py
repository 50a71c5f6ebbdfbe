"""Corrupted images in folders as ImageNet-C's, and mCE."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from torch import Tensor
from torchvision.transforms.v2.functional import pil_to_tensor

from sp_bench.corruptions import NAMES
from sp_bench.data.class_folders import list_class_folders
from sp_bench.data.dataset import DataError
from sp_bench.data.image_files import open_image, resize_and_center_crop

# Errors of AlexNet by Hendrycks and Dietterich (the table that the README of hendrycks/robustness
# links to), as google-research/augmix has them in its imagenet.py.
ALEXNET_ERRORS = {
    "gaussian_noise": 0.886428,
    "shot_noise": 0.894468,
    "impulse_noise": 0.922640,
    "defocus_blur": 0.819880,
    "glass_blur": 0.826268,
    "motion_blur": 0.785948,
    "zoom_blur": 0.798360,
    "snow": 0.866816,
    "frost": 0.826572,
    "fog": 0.819324,
    "brightness": 0.564592,
    "contrast": 0.853204,
    "elastic_transform": 0.646056,
    "pixelate": 0.717840,
    "jpeg_compression": 0.606500,
}


def mean_corruption_error(accuracy: Mapping[str, float]) -> float:
    """mCE: mean over corruptions of the error relative to AlexNet's; 1 is as good as AlexNet.

    Args:
        accuracy: top-1 accuracy of each corruption, mean over the five severities.

    >>> mean_corruption_error(dict.fromkeys(ALEXNET_ERRORS, 1.0))
    0.0
    """
    errors = [(1 - accuracy[name]) / error for name, error in ALEXNET_ERRORS.items()]
    return sum(errors) / len(errors)


class CorruptedFolders:
    """Images in ``NAME/SEVERITY/CLASS/*``, or with the families of ImageNet-C's archives above.

    The files of the first corruption at severity 1 are those of all.

    Args:
        folder: folder of the 15 corruptions; other folders are ignored.
        classes: names of the probe's classes, by label.

    Attributes:
        labels: (N,) int64, of one corruption at one severity.

    Raises:
        DataError: a corruption is missing, or its classes are not the probe's.
    """

    def __init__(self, folder: Path, classes: Sequence[str]) -> None:
        self._folder = folder
        self._of_name = {name: self._find(name) for name in NAMES}
        first = self._of_name[NAMES[0]] / "1"
        paths, labels = list_class_folders(first, classes)
        self._files = [Path(path).relative_to(first) for path in paths]
        self.labels = torch.tensor(labels)

    def images(self, name: str, severity: int, indices: Tensor, side: int) -> Tensor:
        """Images at ``indices`` (m,) of a corruption at a severity, (m, 3, side, side), uint8.

        Raises:
            DataError: a file is missing or damaged.
        """
        folder = self._of_name[name] / str(severity)

        def read(index: int) -> Tensor:
            try:
                image = open_image(folder / self._files[index])
            except (OSError, DataError) as error:
                raise DataError.of(
                    folder, f"{self._files[index]} cannot be read: {error}"
                ) from error
            return pil_to_tensor(resize_and_center_crop(image, side))

        with ThreadPoolExecutor() as pool:
            return torch.stack(list(pool.map(read, indices.tolist())))

    def _find(self, name: str) -> Path:
        for folder in (self._folder / name, *self._folder.glob(f"*/{name}")):
            if (folder / "1").is_dir():
                return folder
        raise DataError.of(
            self._folder, f"{name}/1 is missing; it takes {name}/1/CLASS/* and so on"
        )
