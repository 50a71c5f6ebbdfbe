"""SPConfig: every setting of SP, its default and its check, once.

The same names are used in YAML, in MMEngine configs, on the command line and in the callback.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from sp_plugin.crops.sampler import CropSampler, Range
from sp_plugin.objective.head import HEADS
from sp_plugin.objective.loss import LOSSES
from sp_plugin.objective.pairs import ALL, num_all_pairs
from sp_plugin.objective.targets import TARGET_ENCODINGS
from sp_plugin.sizes import Size, box_ratio, shorter_side, to_size
from sp_plugin.validation import (
    Check,
    ConfigError,
    boolean,
    choice,
    did_you_mean,
    integer,
    invalid_value,
    non_empty_str,
    number,
    optional,
    ordered_range,
    positive,
    value_or_schedule,
)

__all__ = ["DEFAULT_VIEW_SIZE", "POOLS", "SHARPNESS", "SOURCES", "ResolvedConfig", "SPConfig"]

SOURCES = ("view", "image", "host_views")
SHARPNESS = ("equal", "native")
POOLS = ("mean", "cls")
DEFAULT_VIEW_SIZE = 224  # px, where nothing else is known

_SCALE = "least and largest area in (0, 1], such as [0.05, 0.32], or two of these, first to last"
_IOU = "a number in [0, 1], or two, first to last, such as [1.0, 0.1]"
_FRACTION = "a fraction of the batch's images in (0, 1], or null"
_PIXELS = "a number of pixels from 4 up, two of these (height, width), or null"
_NUM_PAIRS = f"{ALL!r} or a whole number from 1 up"


def _key_of(registry: Mapping[str, Any]) -> Check:
    # Read at each check: entries may be added after this module was imported.
    return lambda key, value: choice(*registry)(key, value)


def _num_pairs(key: str, value: Any) -> Any:
    return value if value == ALL else integer(1, _NUM_PAIRS)(key, value)


def _view(key: str, value: Any) -> Any:
    expected = "the place of a view in the batch, its name or path, such as 'images.0', or null"
    check = non_empty_str(expected) if isinstance(value, str) else integer(0, expected)
    return check(key, value)


def _crop_size(key: str, value: Any) -> Size:
    sides = value if isinstance(value, tuple) and len(value) == 2 else (value, value)
    if not all(type(side) is int and side >= 4 for side in sides):
        raise invalid_value(key, value, _PIXELS)
    return to_size(*sides)


def _is_one_range(value: Any) -> bool:
    return not (isinstance(value, tuple) and all(isinstance(end, tuple) for end in value))


_CHECKS: dict[str, Check] = {
    "weight": number(0, 1000, "a number in [0, 1000]"),
    "relative_weight": boolean,
    "warmup_fraction": number(0, 1, "a fraction of training in [0, 1]"),
    "cooldown_fraction": number(0, 1, "a fraction of training in [0, 1]"),
    "source": choice(*SOURCES),
    "view": optional(_view),
    "sample_fraction": optional(positive(number(0, 1, _FRACTION), _FRACTION)),
    "num_crops": integer(2, "a whole number from 2 to 8", high=8),
    "num_pairs": _num_pairs,
    "crop_size": optional(_crop_size),
    "crop_scale": optional(value_or_schedule(ordered_range(0, 1, _SCALE), _is_one_range, _SCALE)),
    "crop_ratio": ordered_range(
        0.1, 10, "least and largest width / height in [0.1, 10], such as [0.75, 1.33]"
    ),
    "window": optional(
        ordered_range(0, 1, "least and largest side in (0, 1], such as [0.5, 1.0], or null")
    ),
    "max_iou": value_or_schedule(number(0, 1, _IOU), lambda v: not isinstance(v, tuple), _IOU),
    "sharpness": choice(*SHARPNESS),
    "target_encoding": _key_of(TARGET_ENCODINGS),
    "head": optional(choice(*HEADS)),
    "hidden_dim": integer(1, "a whole number from 1 up"),
    "loss": _key_of(LOSSES),
    "pool": choice(*POOLS),
    "layer": optional(non_empty_str("the dotted name of a submodule, such as 'layer3'")),
    "update_bn": boolean,
    "seed": integer(0, "a whole number from 0 up"),
}

_Config = TypeVar("_Config")

# Other names of a setting that its spelling does not lead to.
_SYNONYMS = {
    "area": "crop_scale",
    "crops": "num_crops",
    "decay": "cooldown_fraction",
    "encoding": "target_encoding",
    "head_width": "hidden_dim",
    "pairs": "num_pairs",
    "ratio": "crop_ratio",
    "relative": "relative_weight",
    "size": "crop_size",
    "warmup": "warmup_fraction",
}


def _check_names(settings: Mapping[str, Any], extra_names: Sequence[str] = ()) -> None:
    for key in settings:
        if key not in _CHECKS:
            hint = did_you_mean(_SYNONYMS.get(key, key), (*_CHECKS, *extra_names))
            raise ConfigError(f"{key}: no such setting of SP; {hint}")


def _with_checked_names(cls: type[_Config]) -> type[_Config]:
    """Let the constructor of a dataclass refuse an unknown name as `SPConfig.from_dict` does."""
    generated = cls.__init__

    @functools.wraps(generated)
    def __init__(self: _Config, *args: Any, **settings: Any) -> None:  # noqa: N807
        _check_names(settings)
        generated(self, *args, **settings)

    setattr(cls, "__init__", __init__)  # noqa: B010 - a generated method
    return cls


@_with_checked_names
@dataclass(frozen=True)
class SPConfig:
    """Settings of Spatial Prediction. All are our choice: the paper's values could not be read.

    Attributes:
        weight: weight of SP; 0 leaves the host bit for bit unchanged. The default was found by
            trials (docs/results.md).
        relative_weight: whether ``weight`` is the share of SP's gradient in the method's own at
            the backbone's parameters, measured during training (`sp_plugin.gradient_balance`);
            otherwise it is a plain factor of SP's loss.
        warmup_fraction: fraction of training over which the weight rises from 0.
        cooldown_fraction: fraction of training at its end over which the weight falls to 0; 0 for
            none.
        source: where crops come from. ``view``: the method's first full view, on the device;
            ``image``: the original image, by a transform of the data set; ``host_views``: the views
            that the method makes and encodes itself (then the settings of crops do not apply).
        view: which tensor of the batch is that view: its place among the batch's views, from 0, or
            its name or path, such as ``image`` or ``images.0``, with ``[:13]`` after it these
            channels of it; null: the largest, the first of equals.
        sample_fraction: fraction of the batch's images that SP sees in each step, in (0, 1]; drawn
            anew in each step, at least two images. With a relative weight the share of SP's
            gradient stays the same. null: 0.125, which keeps most of the gain for an eighth of the
            cost (docs/results.md), and 1 for ``host_views``, whose features are there anyway.
        num_crops: number of crops of each of these images, 2 to 8; each is encoded once.
        num_pairs: ``all`` pairs of these crops, or a number that is drawn in each step, the same
            ones for the whole batch.
        crop_size: size in pixels that crops are resized to, the side of a square or two numbers,
            height and width, whose shape the crops then have; null: half the view's shorter side,
            at most 96, or a size that the backbone takes.
        crop_scale: least and largest area of a crop, as fractions of the window, or of the largest
            box of the crops' shape that fits it; two such ranges move from the first to the last
            during training; null: [0.05, 0.32], and [0.15, 0.32] for views of 64 px or less.
        crop_ratio: least and largest aspect ratio (width / height) of a crop; where ``crop_size``
            is no square, relative to its own.
        window: least and largest side of the window that holds all crops, as fractions of the
            frame; null: [0.5, 1] for ``image``, none ([1, 1]) for ``view``, whose frame is a
            random crop already.
        max_iou: largest overlap of a pair; two values move from the first to the last.
        sharpness: ``equal`` resizes all crops of an image to one random resolution first, so that
            blur does not reveal the scale; ``native`` does not.
        target_encoding: ``symmetric``, ``anchor`` or ``image``; see `sp_plugin.objective.targets`.
        head: ``antisymmetric``, ``plain`` or ``difference``; null: antisymmetric where the target
            encoding is, else plain.
        hidden_dim: width of the head's hidden layers.
        loss: ``smooth_l1``, ``l1`` or ``mse``.
        pool: pooling of token outputs: ``mean`` of the patch tokens or the ``cls`` token.
        layer: dotted name of the backbone's submodule whose output is used; null: the last output.
        update_bn: whether running statistics are updated by SP's crops.
        seed: seed of the head's weights and of all draws of SP.

    Raises:
        ConfigError: one line: the setting, what it got and what it takes.

    >>> SPConfig(weight=0.5).weight
    0.5
    >>> SPConfig(wieght=0.5)
    Traceback (most recent call last):
    sp_plugin.validation.ConfigError: wieght: no such setting of SP; did you mean 'weight'?
    >>> SPConfig(sharpness="equel")
    Traceback (most recent call last):
    sp_plugin.validation.ConfigError: sharpness: got 'equel', takes one of equal, native
    """

    weight: float = 0.5
    relative_weight: bool = True
    warmup_fraction: float = 0.07
    cooldown_fraction: float = 0.0
    source: str = "view"
    view: int | str | None = None
    sample_fraction: float | None = None
    num_crops: int = 4
    num_pairs: int | str = ALL
    crop_size: int | tuple[int, int] | None = None
    crop_scale: Range | tuple[Range, Range] | None = None
    crop_ratio: Range = (3 / 4, 4 / 3)
    window: Range | None = None
    max_iou: float | Range = 0.1
    sharpness: str = "equal"
    target_encoding: str = "symmetric"
    head: str | None = None
    hidden_dim: int = 512
    loss: str = "smooth_l1"
    pool: str = "mean"
    layer: str | None = None
    update_bn: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        for key, check in _CHECKS.items():
            object.__setattr__(self, key, check(key, _to_tuples(getattr(self, key))))
        self._check_num_pairs()
        self._check_head()
        self._check_schedules()
        self._check_fractions()

    def _check_num_pairs(self) -> None:
        if self.source == "host_views" or self.num_pairs == ALL:
            return
        most = num_all_pairs(self.num_crops)
        if int(self.num_pairs) > most:
            expected = f"{ALL!r} or a whole number from 1 to {most} with num_crops {self.num_crops}"
            raise invalid_value("num_pairs", self.num_pairs, expected)

    def _check_head(self) -> None:
        if self.head == "antisymmetric" and not self._is_antisymmetric:
            expected = f"plain or difference with target_encoding {self.target_encoding!r}"
            raise invalid_value("head", self.head, expected)

    def _check_schedules(self) -> None:
        if self.source != "image":
            return
        moves = {
            "crop_scale": self.crop_scale is not None and not _is_one_range(self.crop_scale),
            "max_iou": isinstance(self.max_iou, tuple),
        }
        for key, does_move in moves.items():
            if does_move:  # the transform of a data set does not know the progress of training
                raise invalid_value(key, getattr(self, key), "one value where source is 'image'")

    def _check_fractions(self) -> None:
        most = 1 - self.warmup_fraction
        if self.cooldown_fraction > most + 1e-9:
            expected = f"at most {most:.3g} with warmup_fraction {self.warmup_fraction:g}"
            raise invalid_value("cooldown_fraction", self.cooldown_fraction, expected)

    @property
    def _is_antisymmetric(self) -> bool:
        return TARGET_ENCODINGS[self.target_encoding].antisymmetric

    @classmethod
    def from_dict(
        cls,
        settings: SPConfig | Mapping[str, Any] | None = None,
        *,
        extra_names: Sequence[str] = (),
        **overrides: Any,
    ) -> SPConfig:
        """Settings from a dict, an OmegaConf DictConfig, an MMEngine ConfigDict or an `SPConfig`.

        Args:
            settings: settings by name; None for the defaults.
            extra_names: further names to suggest for an unknown one, those of the caller's own
                settings.
            **overrides: settings by name that replace these.

        Raises:
            ConfigError: an unknown key, with the nearest known one; or a bad value.

        >>> SPConfig.from_dict({"weight": 1}, seed=3).seed
        3
        >>> SPConfig.from_dict({"wieght": 1})
        Traceback (most recent call last):
        sp_plugin.validation.ConfigError: wieght: no such setting of SP; did you mean 'weight'?
        """
        if isinstance(settings, SPConfig):
            settings = settings.asdict()
        if settings is not None and not isinstance(settings, Mapping):
            raise invalid_value("config", settings, "a mapping of settings or an SPConfig")
        merged = {str(key): value for key, value in {**(settings or {}), **overrides}.items()}
        _check_names(merged, extra_names)
        return cls(**merged)

    def resolve(self, view_size: Size) -> ResolvedConfig:
        """The same settings with none left open, for views of a size in pixels.

        Args:
            view_size: side of the views; of views that are not square the shorter one, or height
                and width.

        >>> SPConfig().resolve(64).crop_size, SPConfig().resolve(224).crop_size
        (32, 96)
        """
        side = shorter_side(view_size)
        defaults = {
            "sample_fraction": 1.0 if self.source == "host_views" else 0.125,
            "crop_size": min(96, max(4, side // 2)),
            "crop_scale": (0.15, 0.32) if side <= 64 else (0.05, 0.32),
            "window": (0.5, 1.0) if self.source == "image" else (1.0, 1.0),
            "head": "antisymmetric" if self._is_antisymmetric else "plain",
        }
        chosen = {key: value for key, value in self.asdict().items() if value is not None}
        return ResolvedConfig(**{**defaults, **chosen})

    def describe_weight(self) -> str:
        """The weight in words, for the line at the start of a run.

        >>> SPConfig(weight=0.5).describe_weight()
        "weight 0.5 of the host's gradient"
        >>> SPConfig(weight=3, relative_weight=False).describe_weight()
        'weight 3'
        """
        unit = " of the host's gradient" if self.relative_weight and self.weight else ""
        return f"weight {self.weight:g}{unit}"

    def asdict(self) -> dict[str, Any]:
        """Settings as plain values, for YAML, JSON and checkpoints."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}


@dataclass(frozen=True)
class ResolvedConfig(SPConfig):
    """An `SPConfig` with no setting left open; made by `SPConfig.resolve`."""

    sample_fraction: float = 0.125
    crop_size: Size = 96
    crop_scale: Range | tuple[Range, Range] = (0.05, 0.32)
    window: Range = (1.0, 1.0)
    head: str = "antisymmetric"

    def build_sampler(self, frame: Size | None = None) -> CropSampler:
        """Sampler of the crops that these settings describe.

        Args:
            frame: size of the views in pixels; None: of the crops' shape.
        """
        return CropSampler(
            self.crop_scale,
            self.crop_ratio,
            self.window,
            self.max_iou,
            num_crops=self.num_crops,
            box_ratio=1.0 if frame is None else box_ratio(frame, self.crop_size),
        )


def _to_tuples(value: Any) -> Any:
    """Lists of any library (OmegaConf's is no list) as tuples, all the way down."""
    if isinstance(value, (str, bytes)) or not isinstance(value, Sequence):
        return value
    return tuple(_to_tuples(item) for item in value)
