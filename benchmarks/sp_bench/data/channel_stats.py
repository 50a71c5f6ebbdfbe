"""Mean and standard deviation of each channel, by which images are normalised."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from lightly.transforms.utils import IMAGENET_NORMALIZE
from torch import Tensor
from torchvision.transforms.v2 import functional as image_ops

from sp_bench.data.dataset import DataError, ImageDataset
from sp_bench.data.image_kind import convert_channels

_MAX_IMAGES = 1000  # spread over the data set; their mean is known to a few percent of a std
_MIN_STD = 1e-6  # of the channel's largest value: a channel without information


@dataclass(frozen=True)
class ChannelStats:
    """Mean and standard deviation of each channel, in [0, 1] for integers, else in file units.

    Attributes:
        mean: (C,)
        std: (C,), above 0.

    >>> IMAGENET.channels, IMAGENET.mean
    (3, (0.485, 0.456, 0.406))
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def channels(self) -> int:
        """Number of channels."""
        return len(self.mean)

    def normalize(self, images: Tensor) -> Tensor:
        """Images (..., C, H, W) in floating point with mean 0 and standard deviation 1."""
        normalized: Tensor = image_ops.normalize(images, list(self.mean), list(self.std))
        return normalized


IMAGENET = ChannelStats(tuple(IMAGENET_NORMALIZE["mean"]), tuple(IMAGENET_NORMALIZE["std"]))


def measure_stats(images: ImageDataset, channels: int) -> ChannelStats:
    """Mean and standard deviation over the pixels of at most 1,000 images of a data set.

    Each image counts the same, whatever its size. A constant channel has the standard deviation 1.

    Args:
        images: training images; test images are not to be used.
        channels: number of channels, to which grey and RGB images are converted.

    Raises:
        DataError: there are no images, or an image cannot be read.
    """
    if not len(images):
        raise DataError("no training images, from which to measure each channel's mean")
    count = min(len(images), _MAX_IMAGES)
    indices = torch.linspace(0, len(images) - 1, count, dtype=torch.float64).round().long()
    moments = torch.zeros(3, channels, dtype=torch.float64)
    for index in indices.tolist():
        pixels = to_unit(convert_channels(images.image(index), channels)).double().flatten(1)
        moments[0] += pixels.mean(dim=1) / count
        moments[1] += pixels.square().mean(dim=1) / count
        moments[2] = torch.maximum(moments[2], pixels.abs().amax(dim=1))
    mean, square, largest = moments
    std = (square - mean.square()).clamp_min(0).sqrt()
    std = std.where(std > _MIN_STD * largest, 1.0)
    return ChannelStats(tuple(mean.tolist()), tuple(std.tolist()))


def to_tensor(image: Any) -> Tensor:
    """A PIL image as a tensor (C, H, W) of uint8; a tensor as it is."""
    pixels: Tensor = image if isinstance(image, Tensor) else image_ops.pil_to_tensor(image)
    return pixels


def to_unit(image: Any) -> Tensor:
    """A PIL image or a tensor as float32: uint8 in [0, 1], floats as they are.

    >>> to_unit(torch.tensor([255], dtype=torch.uint8))
    tensor([1.])
    """
    pixels = to_tensor(image)
    return pixels.float() / 255 if pixels.dtype == torch.uint8 else pixels.float()
