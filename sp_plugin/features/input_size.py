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

from sp_plugin.features.extraction import Call, encode
from sp_plugin.isolation import evaluating, frozen_statistics, private_rng
from sp_plugin.validation import ConfigError

log = logging.getLogger("sp_plugin")

# What fixed-size models are commonly built for, nearest first.
_COMMON = (224, 32, 64, 96, 128, 192, 240, 256, 288, 299, 384, 448, 512, 518)

# What the log has said already: a backbone is asked more than once on the way to training.
_told: WeakKeyDictionary[nn.Module, set[int]] = WeakKeyDictionary()


class Fit(NamedTuple):
    """Side of the crops that a backbone takes, in pixels, and the width of its features."""

    size: int
    width: int


def fit(
    backbone: nn.Module,
    wanted: int,
    pool: str = "mean",
    layer: str | None = None,
    call: Call | None = None,
) -> Fit:
    """Find the crop size that a backbone takes, ``wanted`` if it can be, and its feature width.

    Args:
        backbone: takes (B, 3, S, S).
        wanted: side of the crops in pixels.
        pool: as for `encode`.
        layer: as for `encode`.
        call: as for `encode`.

    Raises:
        ConfigError: the backbone takes none of the sizes that were tried; with its own words.

    >>> fit(nn.Conv2d(3, 8, 3), wanted=32)
    Fit(size=32, width=8)
    """
    like = next((p for p in backbone.parameters() if p.is_floating_point()), torch.zeros(()))
    first_error: Exception | None = None
    # Some keep a table of positions as a buffer, made anew for each size (timm's ConViT).
    with private_rng(0, like.device), evaluating(backbone), frozen_statistics(backbone):
        for size in dict.fromkeys(_sizes(backbone, wanted)):
            blank = torch.zeros(2, 3, size, size).to(like)
            try:
                features = encode(backbone, blank, pool, layer, call)
            except ConfigError:  # a wrong setting, not a wrong size
                raise
            except Exception as error:
                # ViT asserts its size, Hugging Face's raises a ValueError; Swin fails in a
                # reshape, small maps in a convolution.
                first_error = first_error or error
                continue
            _tell_once(backbone, size, wanted)
            return Fit(size, _width(features))
    # A bare `assert` says nothing of its own.
    reason = next(iter(str(first_error).splitlines()), type(first_error).__name__)
    raise ConfigError(
        f"backbone: {type(backbone).__name__} takes no crops of {wanted} px: {reason}"
    ) from first_error


def _sizes(backbone: nn.Module, wanted: int) -> Iterator[int]:
    yield wanted
    yield from (-(-wanted // patch) * patch for patch in (8, 14, 16, 32))
    for part in (backbone, *backbone.modules()):
        for name in ("img_size", "image_size", "input_size"):
            told = getattr(part, name, None)
            side = told[-1] if isinstance(told, (tuple, list)) and told else told
            if isinstance(side, int) and side > 0:
                yield side
    yield from sorted(_COMMON, key=lambda size: (size < wanted, size))


def _width(features: Tensor) -> int:
    return int(features.shape[1])


def _tell_once(backbone: nn.Module, size: int, wanted: int) -> None:
    told = _told.setdefault(backbone, set())
    if size != wanted and size not in told:
        told.add(size)
        log.warning("SP: crops are resized to %d px, what the backbone takes, not %d", size, wanted)
