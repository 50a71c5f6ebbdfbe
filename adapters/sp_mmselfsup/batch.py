"""SP's part of a batch, from the data samples that MMEngine passes to an algorithm."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sp_plugin import ConfigError, Crops, ViewBoxes
from sp_plugin.batch import SPBatch
from sp_plugin.structures import UncoloredCrops

COLOR_CHANNELS = (1, 3, 4)  # of images that are loaded as grey, BGR and BGRA

__all__ = ["crops_from_samples", "sp_batch_from_samples", "view_boxes_from_samples"]


def sp_batch_from_samples(source: str, data_samples: Any, preprocessor: Any) -> SPBatch | None:
    """What ``source`` needs from the data samples; None for ``view``, which needs nothing.

    Args:
        source: setting of SP.
        data_samples: one for each image; for ``image`` with what `SPCrops` adds to them, for
            ``host_views`` with ``sp_boxes`` (V, 4) and ``sp_flips`` (V, 2).
        preprocessor: the algorithm's data preprocessor.

    Raises:
        ConfigError: the samples lack it.
    """
    if source == "image":
        return crops_from_samples(data_samples, preprocessor)
    return view_boxes_from_samples(data_samples) if source == "host_views" else None


def crops_from_samples(data_samples: Any, preprocessor: Any) -> UncoloredCrops:
    """Crops that `SPCrops` made of the original images, to be normalised as the views are."""
    if not data_samples or "sp_crops" not in data_samples[0]:
        raise ConfigError(
            "source: got 'image', but no crops came with the data; put the pipeline into "
            "dict(type='SPCrops', pipeline=..., sp=...)"
        )
    sample = _collate(data_samples, "crops", "boxes")
    boxes, pixels, *_ = Crops.from_batch(sample)
    order = _channel_order(pixels.shape[1], preprocessor)
    white = _collate(data_samples, "normalization")["normalization"][:, :1, : len(order)]
    # As mmengine's ImgDataPreprocessor: of other channels the images are as they were loaded.
    unit = 255 if pixels.shape[1] in COLOR_CHANNELS else 1
    rows = [torch.zeros_like(white), torch.ones_like(white)]
    if preprocessor._enable_normalize:
        rows = [x.flatten().expand_as(white) for x in (preprocessor.mean, preprocessor.std)]
    normalization = torch.cat([white.to(rows[0]), *(row / unit for row in rows)], dim=1)
    return UncoloredCrops(boxes, pixels, normalization, tuple(order))


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


def _channel_order(channels: int, preprocessor: Any) -> list[int]:
    """The channels that the backbone takes, of crops in RGB or with other channels."""
    if channels not in COLOR_CHANNELS:
        return list(range(channels))
    if preprocessor._channel_conversion:
        return list(range(channels))[:3]
    return [2, 1, 0, 3][:channels] if channels > 1 else [0]
