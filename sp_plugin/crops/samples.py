"""Samples: what a data set gives to its transform, an image or a mapping with an image in it.

And which images among what the transform makes of it are views.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from sp_plugin.crops.images import array_to_tensor, count_channels, is_image
from sp_plugin.nested import tree_leaves
from sp_plugin.structures import RGB_CHANNELS
from sp_plugin.validation import ConfigError

__all__ = ["find_image", "first_image", "without_masks"]

_IMAGE_KEYS = ("image", "img")


def find_image(sample: Any) -> Any:
    """The image of a sample: the sample itself, or the image in a mapping.

    Args:
        sample: an image, or a mapping with one, see `first_image`.

    Raises:
        ConfigError: a mapping without an image; the line names its keys.

    >>> import torch
    >>> find_image({"mask": torch.zeros(1, 8, 8), "image": torch.ones(3, 8, 8)}).shape
    torch.Size([3, 8, 8])
    """
    if not isinstance(sample, Mapping):
        return sample
    image = first_image(sample)
    if image is None:
        keys = ", ".join(map(str, sample)) or "no keys"
        raise ConfigError(f"source: the data set's samples have no image, they have {keys}")
    return image


def first_image(sample: Mapping[Any, Any]) -> Any:
    """The image under ``image`` or ``img``, else the first image in the mapping; None: no image."""
    for key in _IMAGE_KEYS:
        if _is_any_image(sample.get(key)):
            return sample[key]
    return next(tree_leaves(sample, _is_any_image), None)


def _is_any_image(item: Any) -> bool:
    return is_image(array_to_tensor(item))


def without_masks(images: list[Any], image: Any) -> list[Any]:
    """Those of the images made of one image that may be its views: masks have other channels.

    Args:
        images: PIL images, and tensors (..., C, H, W); those of the views' channels are returned.
        image: that they were made of.

    >>> import torch
    >>> mask, view = torch.zeros(1, 8, 8), torch.zeros(3, 8, 8)
    >>> [item.shape for item in without_masks([mask, view], torch.zeros(1, 16, 16))]
    [torch.Size([3, 8, 8])]
    """
    counts = [item.shape[-3] for item in images if isinstance(item, Tensor)]
    own = count_channels(image) if is_image(image) else RGB_CHANNELS
    # A grey image may become RGB, next to a mask of one channel.
    usual = (RGB_CHANNELS, own) if own == 1 else (own, RGB_CHANNELS)
    channels = next((count for count in usual if count in counts), counts[0] if counts else own)
    return [x for x in images if not isinstance(x, Tensor) or x.shape[-3] == channels]
