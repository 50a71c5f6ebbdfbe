"""SPConfig: every setting of SP, its default and its check, once.

The same names stand in YAML, in an MMEngine config, on the command line and in the callback.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sp_plugin.crops.sampler import CropSampler, Range
from sp_plugin.objective.head import HEADS
from sp_plugin.objective.loss import LOSSES
from sp_plugin.objective.pairs import ALL, num_all_pairs
from sp_plugin.objective.targets import ANTISYMMETRIC, ENCODINGS
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
    value_or_schedule,
)

SOURCES = ("view", "image", "host_views")
SHARPNESS = ("equal", "native")
POOLS = ("mean", "cls")


_AREA = "least and largest area in (0, 1], such as [0.05, 0.32], or two of these, first to last"
_IOU = "a number in [0, 1], or two, first to last, such as [1.0, 0.1]"
_PAIRS = f"{ALL!r} or a whole number from 1 up"


def _pairs(key: str, value: Any) -> Any:
    return value if value == ALL else integer(1, _PAIRS)(key, value)


def _is_one_range(value: Any) -> bool:
    return not (isinstance(value, tuple) and all(isinstance(end, tuple) for end in value))


_CHECKS: dict[str, Check] = {
    "weight": number(0, 1000, "a number in [0, 1000]"),
    "relative_weight": boolean,
    "warmup_fraction": number(0, 1, "a fraction of training in [0, 1]"),
    "cooldown_fraction": number(0, 1, "a fraction of training in [0, 1]"),
    "source": choice(*SOURCES),
    "num_crops": integer(2, "a whole number from 2 to 8", high=8),
    "num_pairs": _pairs,
    "crop_size": optional(integer(4, "a number of pixels from 4 up, or null")),
    "crop_scale": optional(value_or_schedule(ordered_range(0, 1, _AREA), _is_one_range, _AREA)),
    "crop_ratio": ordered_range(
        0.1, 10, "least and largest width / height in [0.1, 10], such as [0.75, 1.33]"
    ),
    "window": optional(
        ordered_range(0, 1, "least and largest side in (0, 1], such as [0.5, 1.0], or null")
    ),
    "max_iou": value_or_schedule(number(0, 1, _IOU), lambda v: not isinstance(v, tuple), _IOU),
    "sharpness": choice(*SHARPNESS),
    "target_encoding": choice(*ENCODINGS),
    "head": optional(choice(*HEADS)),
    "hidden_dim": integer(1, "a whole number from 1 up"),
    "loss": choice(*LOSSES),
    "pool": choice(*POOLS),
    "layer": optional(non_empty_str("the dotted name of a submodule, such as 'layer3'")),
    "update_bn": boolean,
    "seed": integer(0, "a whole number from 0 up"),
}


@dataclass(frozen=True)
class SPConfig:
    """Settings of Spatial Prediction. All are ours: the paper's values could not be read.

    Attributes:
        weight: of SP beside the host; 0 leaves the host bit for bit as it was. The default is
            what trials found (docs/results.md).
        relative_weight: whether the weight is SP's gradient at the backbone's parameters as a share of
            the host's own, which is measured as training goes on (`sp_plugin.gradient_balance`); if not,
            it is a plain factor of SP's loss.
        warmup_fraction: fraction of training over which the weight rises from 0 to its value.
        cooldown_fraction: fraction of training at its end over which the weight falls to 0; 0 for none.
        source: where crops come from. ``view``: the host's first full view, on the device;
            ``image``: the original image, by a transform of the data set; ``host``: the views
            that the host makes and encodes itself, and then nothing below that says how crops
            are drawn applies.
        num_crops: how many crops of each image, 2 to 8; each is encoded once.
        num_pairs: of these crops that SP asks about: ``all``, or how many are drawn in each step, the
            same ones for the whole batch.
        crop_size: side in pixels that crops are resized to; null: half the frame, at most 96, or what
            the backbone takes.
        crop_scale: least and largest area of a crop, as fractions of the window; two such ranges move
            from the first to the last as training goes on; null: [0.05, 0.32], from [0.15, 0.32]
            where frames are 64 px or less.
        crop_ratio: least and largest aspect (width / height) of a crop.
        window: least and largest side of the window that holds all crops, as fractions of the
            frame; null: [0.5, 1] for ``image``, none ([1, 1]) for ``view``, whose frame is a
            random crop already.
        max_iou: largest overlap of a pair; two values move from the first to the last.
        sharpness: ``equal`` low-passes all crops of an image to one random resolution, so that
            blur does not tell the scale; ``native`` leaves them.
        target_encoding: ``symmetric``, ``anchor`` or ``image``; see `sp_plugin.objective.targets`.
        head: ``antisymmetric``, ``plain`` or ``difference``; null: antisymmetric, but plain for
            ``anchor``, which is not antisymmetric.
        hidden_dim: of the head's hidden layers.
        loss: ``smooth_l1``, ``l1`` or ``mse``.
        pool: of token outputs: ``mean`` of the patch tokens or the ``cls`` token.
        layer: dotted name of the backbone's submodule whose output is taken; null: the last.
        update_bn: let running statistics move with SP's crops.
        seed: of the head's weights and of all that SP draws.

    Raises:
        ConfigError: one line that says the key, what it got and what it takes.

    >>> SPConfig(weight=0.5).weight
    0.5
    >>> SPConfig(sharpness="equel")
    Traceback (most recent call last):
    sp_plugin.validation.ConfigError: sharpness: got 'equel', takes one of equal, native
    """

    weight: float = 0.5
    relative_weight: bool = True
    warmup_fraction: float = 0.07
    cooldown_fraction: float = 0.0
    source: str = "view"
    num_crops: int = 4
    num_pairs: str | int = ALL
    crop_size: int | None = None
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
            object.__setattr__(self, key, check(key, _plain(getattr(self, key))))
        if (
            self.source != "host_views"
            and self.num_pairs != ALL
            and int(self.num_pairs) > (most := num_all_pairs(self.num_crops))
        ):
            takes = f"{ALL!r} or a whole number from 1 to {most} with crops {self.num_crops}"
            raise invalid_value("num_pairs", self.num_pairs, takes)
        if self.head == "antisymmetric" and self.target_encoding not in ANTISYMMETRIC:
            raise invalid_value(
                "head", self.head, f"plain or difference with encoding {self.target_encoding!r}"
            )
        if self.source == "image":
            # A data set does not know how far training is.
            for key, moves in (
                ("crop_scale", self.crop_scale is not None and not _is_one_range(self.crop_scale)),
                ("max_iou", isinstance(self.max_iou, tuple)),
            ):
                if moves:
                    raise invalid_value(
                        key, getattr(self, key), "one value where source is 'image'"
                    )

    @classmethod
    def from_dict(cls, settings: Mapping[str, Any] | None = None, **more: Any) -> SPConfig:
        """From a dict, an OmegaConf DictConfig or an MMEngine ConfigDict, and keywords over it.

        Raises:
            ConfigError: an unknown key, with the nearest known one; or a bad value.

        >>> SPConfig.from_dict({"weight": 1}, seed=3).seed
        3
        >>> SPConfig.from_dict({"wieght": 1})
        Traceback (most recent call last):
        sp_plugin.validation.ConfigError: wieght: no such setting of SP; did you mean 'weight'?
        """
        merged = {str(key): value for key, value in {**(settings or {}), **more}.items()}
        for key in merged:
            if key not in _CHECKS:
                raise ConfigError(f"{key}: no such setting of SP; {did_you_mean(key, _CHECKS)}")
        return cls(**merged)

    def resolve(self, frame: int) -> ResolvedConfig:
        """The same with nothing left open, for frames whose shorter side is ``frame`` pixels.

        >>> SPConfig().resolve(64).crop_size, SPConfig().resolve(224).crop_size
        (32, 96)
        """
        choices = {
            "crop_size": min(96, max(4, frame // 2)),
            "crop_scale": (0.15, 0.32) if frame <= 64 else (0.05, 0.32),
            "window": (0.5, 1.0) if self.source == "image" else (1.0, 1.0),
            "head": "antisymmetric" if self.target_encoding in ANTISYMMETRIC else "plain",
        }
        open_ones = {key: value for key, value in choices.items() if getattr(self, key) is None}
        return ResolvedConfig(**{**self.asdict(), **open_ones})

    def describe_weight(self) -> str:
        """The weight in words, for what a run says when it begins.

        >>> SPConfig(weight=0.5).describe_weight()
        "weight 0.5 of the host's gradient"
        >>> SPConfig(weight=3, relative_weight=False).describe_weight()
        'weight 3'
        """
        of = " of the host's gradient" if self.relative_weight and self.weight else ""
        return f"weight {self.weight:g}{of}"

    def asdict(self) -> dict[str, Any]:
        """Plain values, for YAML, JSON and checkpoints."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}


@dataclass(frozen=True)
class ResolvedConfig(SPConfig):
    """An `SPConfig` with nothing left open; made by `SPConfig.resolve`."""

    crop_size: int = 96
    crop_scale: Range | tuple[Range, Range] = (0.05, 0.32)
    window: Range = (1.0, 1.0)
    head: str = "antisymmetric"

    def build_sampler(self) -> CropSampler:
        """What draws the crops that these settings ask for."""
        return CropSampler(
            self.crop_scale, self.crop_ratio, self.window, self.max_iou, num_crops=self.num_crops
        )


def _plain(value: Any) -> Any:
    """Lists of any library (OmegaConf's is no list) as tuples, all the way down."""
    if isinstance(value, (str, bytes)) or not isinstance(value, Sequence):
        return value
    return tuple(_plain(item) for item in value)
