"""What a backbone takes and gives: found by asking it, once, before training.

The question is put in evaluation mode, without gradients, and on generators of its own, so that
the backbone and the host's randomness are as before.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from sp_plugin.features.extraction import FeatureFn, extract_features
from sp_plugin.isolation import eval_mode, frozen_running_stats, private_rng
from sp_plugin.validation import ConfigError

log = logging.getLogger("sp_plugin")

# What fixed-size models are commonly built for, nearest first.
_COMMON = (224, 32, 64, 96, 128, 192, 240, 256, 288, 299, 384, 448, 512, 518)

# What the log has said already: a backbone is asked more than once on the way to training.
_told: WeakKeyDictionary[nn.Module, set[int]] = WeakKeyDictionary()


class BackboneSpec(NamedTuple):
    """Side of the crops that a backbone takes, in pixels, and the width of its features."""

    input_size: int
    feature_dim: int


def find_input_size(
    backbone: nn.Module,
    preferred_size: int,
    pool: str = "mean",
    layer: str | None = None,
    call: FeatureFn | None = None,
) -> BackboneSpec:
    """Find the crop size that a backbone takes, ``preferred_size`` if it can be, and its feature width.

    Args:
        backbone: takes (B, 3, S, S).
        preferred_size: side of the crops in pixels.
        pool: as for `extract_features`.
        layer: as for `extract_features`.
        call: as for `extract_features`.

    Raises:
        ConfigError: the backbone takes none of the sizes that were tried; with its own words.

    >>> fit(nn.Conv2d(3, 8, 3), preferred_size=32)
    BackboneSpec(input_size=32, feature_dim=8)
    """
    like = next((p for p in backbone.parameters() if p.is_floating_point()), torch.zeros(()))
    first_error: Exception | None = None
    # Some keep a table of positions as a buffer, made anew for each size (timm's ConViT).
    with private_rng(0, like.device), eval_mode(backbone), frozen_running_stats(backbone):
        for size in dict.fromkeys(_sizes(backbone, preferred_size)):
            blank = torch.zeros(2, 3, size, size).to(like)
            try:
                features = extract_features(backbone, blank, pool, layer, call)
            except ConfigError:  # a wrong setting, not a wrong size
                raise
            except Exception as error:
                # ViT asserts its size, Hugging Face's raises a ValueError; Swin fails in a
                # reshape, small maps in a convolution.
                first_error = first_error or error
                continue
            _warn_once(backbone, size, preferred_size)
            return BackboneSpec(size, _width(features))
    # A bare `assert` says nothing of its own.
    reason = next(iter(str(first_error).splitlines()), type(first_error).__name__)
    raise ConfigError(
        f"backbone: {type(backbone).__name__} takes no crops of {preferred_size} px: {reason}"
    ) from first_error


def _sizes(backbone: nn.Module, preferred_size: int) -> Iterator[int]:
    yield preferred_size
    yield from (-(-preferred_size // patch) * patch for patch in (8, 14, 16, 32))
    for part in (backbone, *backbone.modules()):
        for name in ("img_size", "image_size", "input_size"):
            told = getattr(part, name, None)
            side = told[-1] if isinstance(told, (tuple, list)) and told else told
            if isinstance(side, int) and side > 0:
                yield side
    yield from sorted(_COMMON, key=lambda size: (size < preferred_size, size))


def _width(features: Tensor) -> int:
    return int(features.shape[1])


def _warn_once(backbone: nn.Module, size: int, preferred_size: int) -> None:
    told = _told.setdefault(backbone, set())
    if size != preferred_size and size not in told:
        told.add(size)
        log.warning(
            "SP: crops are resized to %d px, what the backbone takes, not %d", size, preferred_size
        )
