"""Pair: relative position and scale of two crops, from frozen features.

The paper's own evaluation, with the controls that it needs. R2 is 1 for correct predictions and 0
for the mean. The headline metric is the gain over a probe of one view alone.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sp_bench.data.dataset import ImageDataset
from sp_bench.data.load import load_unlabelled
from sp_bench.frozen_backbone import FrozenBackbone
from sp_bench.results import PAIR_CONTROLS, MetricSpec
from sp_bench.tasks.pair_breakdown import SUBSETS, find_subsets, gains_by_subset
from sp_bench.tasks.pair_probe import (
    PairFeatures,
    predict_from_both,
    predict_from_one,
    predict_mlp,
    r2_of_both,
    r2_of_one,
    shuffle_partners,
)
from sp_bench.tasks.pair_sampling import SampledCrops, extract_crop_features, sample_crop_groups
from sp_bench.tasks.task import SPATIAL, Task, TaskContext, require_two_images
from sp_plugin.objective.loss import r2

COMPONENTS = ("dx", "dy", "scale")

# Encoding them is most of the cost of a small benchmark. On a ResNet of width 256 four times as
# many pairs to fit on raise no gain by more than 0.012; 1,000 to score on resolve R2 to about 0.01.
_FIT_PAIRS, _SCORE_PAIRS = 3000, 1500

_MLP = {"mlp": "both views", "mlp_one": "one view alone", "mlp_gain": "gain over one view"}

_UNITS = ("of the image's width", "of the image's height", "in log2 of the side")


def r2_metric(key: str, label: str, headline: bool = False) -> MetricSpec:
    """Spec of an R2, a control by default."""
    return MetricSpec(key, f"{label} (R2)", headline=headline, chance=0.0)


def _metrics() -> tuple[MetricSpec, ...]:
    gains = [
        r2_metric(f"pair_{name}_gain", f"pair: {name}, gain over one view", headline=True)
        for name in COMPONENTS
    ]
    equal_label = "pair: scale, sharpness equalised, gain over one view"
    equal_gain = r2_metric("pair_scale_equal_gain", equal_label, headline=True)
    controls = [
        r2_metric(f"pair_{name}_{key}", f"pair: {name}, {label}")
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
        r2_metric(f"pair_{name}_{key}", f"pair: {name}, MLP, {label}")
        for key, label in _MLP.items()
        for name in COMPONENTS
    ]
    by_subset = [
        r2_metric(f"pair_{name}_gain_{subset}", f"pair: {name}, gain over one view, {label}")
        for subset, label in SUBSETS.items()
        for name in ("shift", "scale")
    ]
    return *gains, equal_gain, *controls, *errors, *mlps, *by_subset


def run(context: TaskContext) -> dict[str, float]:
    """Fit probes on pairs from the training images, score them on pairs from the test images."""
    require_two_images(context.splits)
    train, test, backbone = context.splits.train, context.splits.test, context.backbone
    sizes = backbone.side, backbone.crop_size
    fit_crops = sample_crop_groups(len(train), _FIT_PAIRS, *sizes, part=0)
    score_crops = sample_crop_groups(len(test), _SCORE_PAIRS, *sizes, part=1)
    fit, score = _extract(backbone, train, fit_crops), _extract(backbone, test, score_crops)
    equal = (
        _extract(backbone, train, fit_crops, fit_crops.resolution),
        _extract(backbone, test, score_crops, score_crops.resolution),
    )
    untrained = context.untrained
    random = _extract(untrained, train, fit_crops), _extract(untrained, test, score_crops)

    both, target = predict_from_both(fit, score), score.targets.double()
    ones = predict_from_one(fit, score)
    scores = {
        "r2": r2(both, target),
        "one": torch.maximum(*(r2(one, target) for one in ones)),
        "shuffled": r2_of_both(shuffle_partners(fit), shuffle_partners(score)),
        "random": r2_of_both(*random),
        "equal": r2_of_both(*equal),
        "equal_one": r2_of_one(*equal),
        "mlp": r2_of_both(fit, score, predict_mlp),
        "mlp_one": r2_of_one(fit, score, predict_mlp),
    }
    scores["gain"] = scores["r2"] - scores["one"]
    scores["mlp_gain"] = scores["mlp"] - scores["mlp_one"]
    error = (both - target).abs().mean(dim=0)
    error[2] /= math.log(2)  # sigma is a natural logarithm
    metrics = {
        f"pair_{name}_{key}": float(value)
        for key, values in {**scores, "error": error}.items()
        for name, value in zip(COMPONENTS, values, strict=True)
    }
    metrics["pair_scale_equal_gain"] = float((scores["equal"] - scores["equal_one"])[2])
    subsets = find_subsets(score_crops)
    for subset, (shift, scale) in gains_by_subset(subsets, both, ones, target).items():
        metrics[f"pair_shift_gain_{subset}"] = shift
        metrics[f"pair_scale_gain_{subset}"] = scale
    return metrics


def _extract(
    backbone: FrozenBackbone,
    images: ImageDataset,
    crops: SampledCrops,
    resolution: Tensor | None = None,
) -> PairFeatures:
    views = extract_crop_features(backbone, backbone.images(images), crops, resolution)
    return PairFeatures(views, crops.targets, crops.image)


TASK = Task("pair", _metrics(), run, load_unlabelled, quality=SPATIAL)
