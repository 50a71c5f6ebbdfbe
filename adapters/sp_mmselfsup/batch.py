"""SP's part of a batch, from the data samples that MMEngine passes to an algorithm."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sp_plugin import ConfigError, Crops, ViewBoxes
from sp_plugin.batch import SPBatch

COLOR_CHANNELS = (1, 3, 4)  # of images that are loaded as grey, BGR and BGRA

__all__ = ["crops_from_samples", "sp_batch_from_samples", "view_boxes_from_samples"]


def sp_batch_from_samples(source: str, data_samples: Any, preprocessor: Any) -> SPBatch | None:
    """What ``source`` needs from the data samples; None for ``view``, which needs nothing.

    Args:
        source: setting of SP.
        data_samples: one for each image; for ``image`` with ``sp_crops`` (k, C, h, w) and
            ``sp_boxes`` (k, 4), for ``host_views`` ``sp_boxes`` (V, 4) and ``sp_flips`` (V, 2).
        preprocessor: the algorithm's data preprocessor.

    Raises:
        ConfigError: the samples lack it.
    """
    if source == "image":
        return crops_from_samples(data_samples, preprocessor)
    return view_boxes_from_samples(data_samples) if source == "host_views" else None


def crops_from_samples(data_samples: Any, preprocessor: Any) -> Crops:
    """Crops that `SPCrops` made of the original images, normalised as the views are."""
    if not data_samples or "sp_crops" not in data_samples[0]:
        raise ConfigError(
            "source: got 'image', but no crops came with the data; put the pipeline into "
            "dict(type='SPCrops', pipeline=..., sp=...)"
        )
    sample = _collate(data_samples, "crops", "boxes")
    return Crops.from_batch({**sample, "crops": _normalize(sample["crops"], preprocessor)})


def view_boxes_from_samples(data_samples: Any) -> ViewBoxes:
    """Locations of the algorithm's views, which `SPViewBoxes` recorded."""
    if not data_samples or "sp_flips" not in data_samples[0]:
        raise ConfigError(
            "source: got 'host_views', but no locations of the views came with the data; put the "
            "pipeline into dict(type='SPViewBoxes', pipeline=...)"
        )
    return ViewBoxes.from_batch(_collate(data_samples, "boxes", "flips"))


def _collate(data_samples: Any, *names: str) -> dict[str, Tensor]:
    """The samples' ``sp_NAME``, stacked as by a data loader."""
    return {
        name: torch.stack([getattr(sample, f"sp_{name}") for sample in data_samples])
        for name in names
    }


def _normalize(crops: Tensor, preprocessor: Any) -> Tensor:
    """As in mmengine's ImgDataPreprocessor, for images that are loaded in BGR, 0 to 255.

    Images of other channels than grey, RGB and RGBA are as they were loaded.
    """
    channels = crops.shape[-3]
    if channels in COLOR_CHANNELS:
        if preprocessor._channel_conversion:
            crops = crops[..., :3, :, :]
        elif channels > 1:
            crops = crops[..., [2, 1, 0, 3][:channels], :, :]
        crops = crops * 255
    if not preprocessor._enable_normalize:
        return crops
    return (crops - preprocessor.mean) / preprocessor.std
