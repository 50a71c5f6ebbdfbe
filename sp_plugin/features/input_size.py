"""Input size: which crops a backbone takes and what its features are, found before training.

The sizes are tried in turn by `sp_plugin.features.probe.Probe`, which leaves the backbone and the
host's randomness as they were.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from weakref import WeakKeyDictionary

from torch import nn
from torch.nn.parameter import is_lazy

from sp_plugin.features.backbone_call import FeatureFn
from sp_plugin.features.layout import FeatureLayout
from sp_plugin.features.probe import Probe, TrainingModeError
from sp_plugin.sizes import Size, height_and_width, size_text, to_size
from sp_plugin.structures import RGB_CHANNELS
from sp_plugin.validation import ConfigError, first_line

__all__ = ["BackboneSpec", "find_input_size", "first_convolution", "input_channels"]

log = logging.getLogger("sp_plugin")

# Input sizes for which fixed-size models are commonly built, most common first.
_COMMON_SIZES = (224, 32, 64, 96, 128, 192, 240, 256, 288, 299, 384, 448, 512, 518)

# Sizes that were logged already: a backbone is probed more than once on the way to training.
_logged_sizes: WeakKeyDictionary[nn.Module, set[Size]] = WeakKeyDictionary()


@dataclass(frozen=True)
class BackboneSpec:
    """What a backbone takes and gives.

    Attributes:
        input_size: size in pixels of the crops that it takes: a square's side, or height and width.
        layout: where the features are in its output.
        channels: number of channels that it takes.
    """

    input_size: Size
    layout: FeatureLayout
    channels: int = RGB_CHANNELS

    @property
    def feature_dim(self) -> int:
        """Width of the features."""
        return self.layout.feature_dim


def find_input_size(
    backbone: nn.Module,
    preferred_size: Size,
    pool: str = "mean",
    layer: str | None = None,
    feature_fn: FeatureFn | None = None,
    in_training: bool = True,
    channels: int | None = None,
    view_size: Size | None = None,
) -> BackboneSpec:
    """Find the crop size that a backbone takes, and the layout of its features.

    Args:
        backbone: module that takes images (B, C, H, W).
        preferred_size: size of the crops in pixels, used where the backbone takes it.
        pool: as for `extract_features`.
        layer: as for `extract_features`.
        feature_fn: as for `extract_features`.
        in_training: whether it has to take them in training mode too.
        channels: number of channels C of the images; None: those of the backbone's first
            convolution, or another usual number that it takes.
        view_size: size of the method's views, where it is known, which the backbone takes.

    Raises:
        ConfigError: the backbone takes none of the sizes that were tried, with its own message; its
            features could only be guessed; or it has lazy layers, which would get their weights
            here.

    >>> spec = find_input_size(nn.Conv2d(3, 8, 3), preferred_size=32)
    >>> spec.input_size, spec.feature_dim
    (32, 8)
    """
    lazy = [name for name, p in backbone.named_parameters() if is_lazy(p)]
    if lazy:
        raise ConfigError(
            f"backbone: {lazy[0]} of {type(backbone).__name__} is of a lazy layer and has no shape "
            "yet; run the backbone on a batch once, before SP"
        )
    counts = _candidate_channels(backbone) if channels is None else [channels]
    sizes = dict.fromkeys((preferred_size, *_candidate_sizes(backbone, preferred_size, view_size)))
    probes = [Probe(backbone, pool, layer, feature_fn, count) for count in counts]
    errors: dict[Size, Exception] = {}  # with the first number of channels
    for probe, size in itertools.product(probes, sizes):
        try:
            layout = probe.find_layout(size, in_training)
        except ConfigError:  # a wrong setting, not a wrong size
            raise
        except Exception as error:
            # ViT asserts its size, Hugging Face's raises a ValueError; Swin fails in a
            # reshape, small maps in a convolution.
            errors.setdefault(size, error)
            continue
        _warn_once(backbone, size, preferred_size)
        return BackboneSpec(size, layout, probe.channels)
    raise _refusal(probes[0], preferred_size, errors)


def _refusal(probe: Probe, preferred_size: Size, errors: dict[Size, Exception]) -> ConfigError:
    """The error to raise where no size was taken, with the backbone's message that matters."""
    # One size is taken but for the true cause: it gets furthest. The first of equals: those that
    # the backbone names come before the common ones.
    declared = [size for size in _declared_sizes(probe.backbone) if size in errors]
    order = dict.fromkeys((*declared, *errors))
    size = max(order, key=probe.count_calls)
    error = errors[size]
    where = "" if size == preferred_size else f"; at {size_text(size)} px"
    if isinstance(error, TrainingModeError) and isinstance(error.__cause__, Exception):
        error, where = error.__cause__, f"{where} in training mode"
    wanted = size_text(preferred_size)
    if probe.channels != RGB_CHANNELS:
        where = f" with {probe.channels} channels{where}"
    refusal = ConfigError(
        f"backbone: {type(probe.backbone).__name__} takes no crops of {wanted} px{where}: "
        f"{first_line(error)}"
    )
    refusal.__cause__ = error
    return refusal


def first_convolution(backbone: nn.Module) -> nn.Conv2d | None:
    """The backbone's first 2-D convolution; None: it has none."""
    return next((part for part in backbone.modules() if isinstance(part, nn.Conv2d)), None)


def input_channels(backbone: nn.Module) -> int | None:
    """Number of channels that the backbone's first 2-D convolution takes; None: it has none.

    >>> input_channels(nn.Sequential(nn.Conv2d(4, 8, 3), nn.Conv2d(8, 8, 3)))
    4
    """
    first = first_convolution(backbone)
    return first.in_channels if first is not None and first.in_channels > 0 else None


def _candidate_channels(backbone: nn.Module) -> list[int]:
    """Numbers of channels to try: there may be a layer before the first convolution, or none."""
    first = input_channels(backbone)
    if first is not None:
        return list(dict.fromkeys((first, RGB_CHANNELS)))
    return [RGB_CHANNELS, *(count for count in range(1, 17) if count != RGB_CHANNELS)]


def _candidate_sizes(
    backbone: nn.Module, preferred_size: Size, view_size: Size | None
) -> Iterator[Size]:
    sides = height_and_width(preferred_size)
    for patch in (8, 14, 16, 32):
        yield to_size(*(-(-side // patch) * patch for side in sides))
    yield from _declared_sizes(backbone)
    if isinstance(view_size, tuple):
        yield view_size
    yield from sorted(_COMMON_SIZES, key=lambda size: (size < max(sides), size))


def _declared_sizes(backbone: nn.Module) -> Iterator[Size]:
    """Sizes that the backbone names for its images."""
    for part in (backbone, *backbone.modules()):
        for name in ("img_size", "image_size", "input_size"):
            value = getattr(part, name, None)
            sides = tuple(value[-2:]) if isinstance(value, (tuple, list)) else (value,)
            if sides and all(isinstance(side, int) and side > 0 for side in sides):
                yield to_size(sides[0], sides[-1])


def _warn_once(backbone: nn.Module, size: Size, preferred_size: Size) -> None:
    logged = _logged_sizes.setdefault(backbone, set())
    if size != preferred_size and size not in logged:
        logged.add(size)
        log.warning(
            "SP: crops are resized to %s px, which the backbone takes, not %s",
            size_text(size),
            size_text(preferred_size),
        )
