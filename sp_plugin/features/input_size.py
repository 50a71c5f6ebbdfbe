"""Input size: which crops a backbone takes and how wide its features are, found before training.

The backbone is run once in evaluation mode, without gradients and on private generators, so that
it and the host's randomness stay as they were.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import nn

from sp_plugin.features.extraction import FeatureFn, extract_features
from sp_plugin.isolation import eval_mode, frozen_running_stats, private_rng
from sp_plugin.structures import IMAGE_CHANNELS
from sp_plugin.validation import ConfigError, first_line

__all__ = ["BackboneSpec", "find_input_size"]

log = logging.getLogger("sp_plugin")

# Input sizes for which fixed-size models are commonly built, most common first.
_COMMON_SIZES = (224, 32, 64, 96, 128, 192, 240, 256, 288, 299, 384, 448, 512, 518)

# Sizes that were logged already: a backbone is probed more than once on the way to training.
_logged_sizes: WeakKeyDictionary[nn.Module, set[int]] = WeakKeyDictionary()


class BackboneSpec(NamedTuple):
    """Side of the crops that a backbone takes, in pixels, and the width of its features."""

    input_size: int
    feature_dim: int


def find_input_size(
    backbone: nn.Module,
    preferred_size: int,
    pool: str = "mean",
    layer: str | None = None,
    feature_fn: FeatureFn | None = None,
) -> BackboneSpec:
    """Find the crop size that a backbone takes, and the width of its features.

    Args:
        backbone: module that takes (B, 3, S, S).
        preferred_size: side of the crops in pixels, used where the backbone takes it.
        pool: as for `extract_features`.
        layer: as for `extract_features`.
        feature_fn: as for `extract_features`.

    Raises:
        ConfigError: the backbone takes none of the sizes that were tried; with its own message.

    >>> find_input_size(nn.Conv2d(3, 8, 3), preferred_size=32)
    BackboneSpec(input_size=32, feature_dim=8)
    """
    like = next((p for p in backbone.parameters() if p.is_floating_point()), torch.zeros(()))
    first_error: Exception | None = None
    # Some keep a table of positions as a buffer, made anew for each size (timm's ConViT).
    with private_rng(0, like.device), eval_mode(backbone), frozen_running_stats(backbone):
        for size in dict.fromkeys(_candidate_sizes(backbone, preferred_size)):
            blank = torch.zeros(2, IMAGE_CHANNELS, size, size).to(like)
            try:
                features = extract_features(backbone, blank, pool, layer, feature_fn)
            except ConfigError:  # a wrong setting, not a wrong size
                raise
            except Exception as error:
                # ViT asserts its size, Hugging Face's raises a ValueError; Swin fails in a
                # reshape, small maps in a convolution.
                first_error = first_error or error
                continue
            _warn_once(backbone, size, preferred_size)
            return BackboneSpec(size, int(features.shape[1]))
    assert first_error is not None
    raise ConfigError(
        f"backbone: {type(backbone).__name__} takes no crops of {preferred_size} px: "
        f"{first_line(first_error)}"
    ) from first_error


def _candidate_sizes(backbone: nn.Module, preferred_size: int) -> Iterator[int]:
    yield preferred_size
    yield from (-(-preferred_size // patch) * patch for patch in (8, 14, 16, 32))
    for part in (backbone, *backbone.modules()):
        for name in ("img_size", "image_size", "input_size"):
            value = getattr(part, name, None)
            side = value[-1] if isinstance(value, (tuple, list)) and value else value
            if isinstance(side, int) and side > 0:
                yield side
    yield from sorted(_COMMON_SIZES, key=lambda size: (size < preferred_size, size))


def _warn_once(backbone: nn.Module, size: int, preferred_size: int) -> None:
    logged = _logged_sizes.setdefault(backbone, set())
    if size != preferred_size and size not in logged:
        logged.add(size)
        log.warning(
            "SP: crops are resized to %d px, which the backbone takes, not %d", size, preferred_size
        )
