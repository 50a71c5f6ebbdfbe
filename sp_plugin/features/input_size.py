"""Input size: which crops a backbone takes and what its features are, found before training.

The sizes are tried in turn by `sp_plugin.features.probe.Probe`, which leaves the backbone and the
host's randomness as they were.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from weakref import WeakKeyDictionary

from torch import nn

from sp_plugin.features.backbone_call import FeatureFn
from sp_plugin.features.layout import FeatureLayout
from sp_plugin.features.probe import Probe, TrainingModeError
from sp_plugin.validation import ConfigError, first_line

__all__ = ["BackboneSpec", "find_input_size"]

log = logging.getLogger("sp_plugin")

# Input sizes for which fixed-size models are commonly built, most common first.
_COMMON_SIZES = (224, 32, 64, 96, 128, 192, 240, 256, 288, 299, 384, 448, 512, 518)

# Sizes that were logged already: a backbone is probed more than once on the way to training.
_logged_sizes: WeakKeyDictionary[nn.Module, set[int]] = WeakKeyDictionary()


@dataclass(frozen=True)
class BackboneSpec:
    """What a backbone takes and gives.

    Attributes:
        input_size: side of the crops that it takes, in pixels.
        layout: where the features are in its output.
    """

    input_size: int
    layout: FeatureLayout

    @property
    def feature_dim(self) -> int:
        """Width of the features."""
        return self.layout.feature_dim


def find_input_size(
    backbone: nn.Module,
    preferred_size: int,
    pool: str = "mean",
    layer: str | None = None,
    feature_fn: FeatureFn | None = None,
    in_training: bool = True,
) -> BackboneSpec:
    """Find the crop size that a backbone takes, and the layout of its features.

    Args:
        backbone: module that takes (B, 3, S, S).
        preferred_size: side of the crops in pixels, used where the backbone takes it.
        pool: as for `extract_features`.
        layer: as for `extract_features`.
        feature_fn: as for `extract_features`.
        in_training: whether it has to take them in training mode too.

    Raises:
        ConfigError: the backbone takes none of the sizes that were tried, with its own message; or
            its features could only be guessed.

    >>> spec = find_input_size(nn.Conv2d(3, 8, 3), preferred_size=32)
    >>> spec.input_size, spec.feature_dim
    (32, 8)
    """
    probe = Probe(backbone, pool, layer, feature_fn)
    errors: dict[int, Exception] = {}
    for size in dict.fromkeys((preferred_size, *_candidate_sizes(backbone, preferred_size))):
        try:
            layout = probe.find_layout(size, in_training)
        except ConfigError:  # a wrong setting, not a wrong size
            raise
        except Exception as error:
            # ViT asserts its size, Hugging Face's raises a ValueError; Swin fails in a
            # reshape, small maps in a convolution.
            errors[size] = error
            continue
        _warn_once(backbone, size, preferred_size)
        return BackboneSpec(size, layout)
    raise _refusal(probe, preferred_size, errors)


def _refusal(probe: Probe, preferred_size: int, errors: dict[int, Exception]) -> ConfigError:
    """The error to raise where no size was taken, with the backbone's message that matters."""
    # One size is taken but for the true cause: it gets furthest. The first of equals: those that
    # the backbone names come before the common ones.
    declared = [size for size in _declared_sizes(probe.backbone) if size in errors]
    order = dict.fromkeys((*declared, *errors))
    size = max(order, key=probe.count_calls)
    error = errors[size]
    where = "" if size == preferred_size else f"; at {size} px"
    if isinstance(error, TrainingModeError) and isinstance(error.__cause__, Exception):
        error, where = error.__cause__, f"{where} in training mode"
    refusal = ConfigError(
        f"backbone: {type(probe.backbone).__name__} takes no crops of {preferred_size} px{where}: "
        f"{first_line(error)}"
    )
    refusal.__cause__ = error
    return refusal


def _candidate_sizes(backbone: nn.Module, preferred_size: int) -> Iterator[int]:
    yield from (-(-preferred_size // patch) * patch for patch in (8, 14, 16, 32))
    yield from _declared_sizes(backbone)
    yield from sorted(_COMMON_SIZES, key=lambda size: (size < preferred_size, size))


def _declared_sizes(backbone: nn.Module) -> Iterator[int]:
    """Sizes that the backbone names for its images."""
    for part in (backbone, *backbone.modules()):
        for name in ("img_size", "image_size", "input_size"):
            value = getattr(part, name, None)
            side = value[-1] if isinstance(value, (tuple, list)) and value else value
            if isinstance(side, int) and side > 0:
                yield side


def _warn_once(backbone: nn.Module, size: int, preferred_size: int) -> None:
    logged = _logged_sizes.setdefault(backbone, set())
    if size != preferred_size and size not in logged:
        logged.add(size)
        log.warning(
            "SP: crops are resized to %d px, which the backbone takes, not %d", size, preferred_size
        )
