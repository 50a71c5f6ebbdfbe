"""What SP asks about, out of what the host's data preprocessor hands to an algorithm."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sp_plugin import ConfigError, Crops
from sp_plugin.views.transform import ViewBoxes


def first_view(inputs: Any) -> Tensor:
    """The host's first full view.

    Lists of views put the full ones first, small crops and the target's image after them;
    single-view algorithms of MMPretrain get one tensor.

    >>> full, small = torch.zeros(2, 3, 8, 8), torch.zeros(2, 3, 4, 4)
    >>> first_view([full, small]) is full, first_view(full) is full
    (True, True)
    """
    view: Tensor = inputs if isinstance(inputs, Tensor) else inputs[0]
    return view


def crops_from_samples(data_samples: Any, preprocessor: Any) -> Crops:
    """The crops that `SPCrops` drew from the original images, normalised as the views are.

    Args:
        data_samples: one for each image, with ``sp_crops`` (k, 3, S, S) and ``sp_boxes`` (k, 4).
        preprocessor: the host's, for its mean, its deviation and its order of channels.

    Raises:
        ConfigError: there are no crops in the samples.
    """
    if not data_samples or "sp_crops" not in data_samples[0]:
        raise ConfigError(
            "source: got 'image', but no crops came with the data; put the pipeline into "
            "dict(type='SPCrops', pipeline=..., sp=...)"
        )
    made = _stacked(data_samples, "crops", "boxes")
    return Crops.from_batch({**made, "num_crops": _normalised(made["crops"], preprocessor)})


def view_boxes_from_samples(data_samples: Any) -> ViewBoxes:
    """Where the host's views lie in their images, as `SPViews` found.

    Args:
        data_samples: one for each image, with ``sp_boxes`` (V, 4) and ``sp_flips`` (V, 2).

    Raises:
        ConfigError: there are no places in the samples.
    """
    if not data_samples or "sp_flips" not in data_samples[0]:
        raise ConfigError(
            "source: got 'host_views', but no places of the views came with the data; put the pipeline "
            "into dict(type='SPViews', pipeline=...)"
        )
    return ViewBoxes.from_batch(_stacked(data_samples, "boxes", "flips"))


def _stacked(data_samples: Any, *names: str) -> dict[str, Tensor]:
    """What the samples hold as ``sp_NAME``, as a data loader's collation would give it."""
    return {
        name: torch.stack([getattr(sample, f"sp_{name}") for sample in data_samples])
        for name in names
    }


def _normalised(crops: Tensor, preprocessor: Any) -> Tensor:
    """As mmengine's ImgDataPreprocessor treats images that were loaded in BGR, 0 to 255."""
    if not preprocessor._channel_conversion:
        crops = crops.flip(-3)
    crops = crops * 255
    if not preprocessor._enable_normalize:
        return crops
    return (crops - preprocessor.mean) / preprocessor.std
