"""Pairs: can position and scale of one crop against another be read off frozen features?

The paper's own evaluation, with the controls that a figure of it needs. R2 is 1 for the truth and
0 for guessing the mean. What counts is the gain over a probe that sees one view alone.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sp_bench.data.dataset import ImageDataset
from sp_bench.data.unlabelled_folder import images_without_labels
from sp_bench.frozen_backbone import FrozenBackbone, UnmeasurableError
from sp_bench.results import PAIR_CONTROLS, MetricSpec
from sp_bench.tasks import Task, TaskContext
from sp_bench.tasks.pair_breakdown import PARTS, gains_by_part, parts_of
from sp_bench.tasks.pair_probe import (
    Pairs,
    from_both,
    from_one,
    mlp_of_both,
    mlp_of_one,
    r2_of_both,
    r2_of_one,
    shuffled,
)
from sp_bench.tasks.pair_sampling import Draws, draw_pairs, encode_pairs
from sp_plugin.objective.loss import r2

COMPONENTS = ("dx", "dy", "scale")

# Encoding them is most of what a small benchmark costs. On a ResNet of width 256 four times as
# many to fit on raise no gain by more than 0.012, and 1,000 to score on tell an R2 to about 0.01.
_FIT_PAIRS, _SCORE_PAIRS = 3000, 1500

_MLP = {"mlp": "both views", "mlp_one": "one view alone", "mlp_gain": "gain over one view"}

_UNITS = ("of the image's width", "of the image's height", "in log2 of the side")


def _figures() -> tuple[MetricSpec, ...]:
    gains = [
        MetricSpec(f"pair_{name}_gain", f"pair: {name}, gain over one view (R2)", chance=0.0)
        for name in COMPONENTS
    ]
    equal = "pair: scale, sharpness equalised, gain over one view (R2)"
    controls = [
        MetricSpec(f"pair_{name}_{key}", f"pair: {name}, {label} (R2)", headline=False, chance=0.0)
        for key, label in PAIR_CONTROLS.items()
        for name in COMPONENTS
    ]
    errors = [
        MetricSpec(
            f"pair_{name}_error",
            f"pair: {name}, mean absolute error {unit}",
            headline=False,
            higher_is_better=False,
        )
        for name, unit in zip(COMPONENTS, _UNITS, strict=True)
    ]
    mlps = [
        MetricSpec(
            f"pair_{name}_{key}", f"pair: {name}, MLP, {label} (R2)", headline=False, chance=0.0
        )
        for key, label in _MLP.items()
        for name in COMPONENTS
    ]
    parts = [
        MetricSpec(
            f"pair_{what}_gain_{part}",
            f"pair: {what}, gain over one view, {label} (R2)",
            headline=False,
            chance=0.0,
        )
        for part, label in PARTS.items()
        for what in ("shift", "scale")
    ]
    last = MetricSpec("pair_scale_equal_gain", equal, chance=0.0)
    return *gains, last, *controls, *errors, *mlps, *parts


def run(subject: TaskContext) -> dict[str, float]:
    """Fit probes on pairs from the training images, score them on pairs from the others."""
    train, test, backbone = subject.splits.train, subject.splits.test, subject.backbone
    if min(len(train), len(test)) < 2:
        raise UnmeasurableError("data: pairs of another image take two images in each split")
    frame, crop = backbone.side, backbone.crop
    parts = [
        (train, draw_pairs(len(train), _FIT_PAIRS, frame, crop, part=0)),
        (test, draw_pairs(len(test), _SCORE_PAIRS, frame, crop, part=1)),
    ]
    native = [_pairs(backbone, of, draws) for of, draws in parts]
    equal = [_pairs(backbone, of, draws, draws.resolution) for of, draws in parts]
    random = [_pairs(subject.untrained, of, draws) for of, draws in parts]

    predicted, truth = from_both(*native), native[1].targets.double()
    ones = from_one(native[0], native[1])
    told = {
        "r2": r2(predicted, truth),
        "one": torch.maximum(*(r2(one, truth) for one in ones)),
        "shuffled": r2_of_both(*map(shuffled, native)),
        "random": r2_of_both(*random),
        "equal": r2_of_both(*equal),
        "equal_one": r2_of_one(*equal),
        "mlp": mlp_of_both(*native),
        "mlp_one": mlp_of_one(*native),
    }
    gain, equal_gain = told["r2"] - told["one"], told["equal"] - told["equal_one"]
    error = (predicted - truth).abs().mean(dim=0)
    error[2] /= math.log(2)  # sigma is a natural logarithm
    named = {"gain": gain, **told, "error": error, "mlp_gain": told["mlp"] - told["mlp_one"]}
    figures = {
        f"pair_{name}_{key}": float(value)
        for key, values in named.items()
        for name, value in zip(COMPONENTS, values, strict=True)
    }
    for part, gains in gains_by_part(parts_of(parts[1][1]), predicted, ones, truth).items():
        figures |= {
            f"pair_{what}_gain_{part}": value
            for what, value in zip(("shift", "scale"), gains, strict=True)
        }
    return figures | {"pair_scale_equal_gain": float(equal_gain[2])}


def _pairs(
    backbone: FrozenBackbone, images: ImageDataset, draws: Draws, resolution: Tensor | None = None
) -> Pairs:
    views = encode_pairs(backbone, backbone.images(images), draws, resolution)
    return Pairs(views, draws.targets, draws.image)


TASK = Task("pair", _figures(), run, images_without_labels)
