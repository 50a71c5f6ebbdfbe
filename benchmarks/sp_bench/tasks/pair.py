"""Pair: relative position and scale of two crops, from frozen features.

The paper's own evaluation, with the controls that it needs. R2 is 1 for correct predictions and 0
for the mean. The headline metric is the gain over a probe of one view alone. Of the 48 metrics ten
are in tables, from which the reader has R2 of one view too (both views less the gain).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sp_bench.data.load import load_unlabelled
from sp_bench.results import MetricSpec
from sp_bench.tasks.pair_breakdown import SUBSETS, find_subsets, gains_by_subset
from sp_bench.tasks.pair_probe import (
    COMPONENTS,
    by_component,
    predict_from_both,
    predict_from_one,
    predict_mlp,
    r2_metric,
    r2_of_both,
    r2_of_one,
    shuffle_partners,
)
from sp_bench.tasks.pair_sampling import crop_features
from sp_bench.tasks.task import SPATIAL, Task, TaskContext
from sp_plugin.objective.loss import r2

# Groups of two crops to fit on and to score on. Encoding them is most of the cost of a small
# benchmark. On a ResNet of width 256 four times as many pairs to fit on raise no gain by more than
# 0.012; 1,000 to score on resolve R2 to about 0.01.
MAX_PAIRS = 3000, 1500

_CONTROLS = {
    "r2": "both views",
    "one": "one view alone",
    "shuffled": "partner shuffled",
    "random": "random backbone",
    "equal": "sharpness equalised",
    "equal_one": "sharpness equalised, one view alone",
}
_MLP = {
    "mlp": "MLP, both views",
    "mlp_one": "MLP, one view alone",
    "mlp_gain": "MLP, gain over one view",
}
_SHOWN = ("r2", "random")  # of both; the others are in JSON alone
_UNITS = ("of the image's width", "of the image's height", "in log2 of the side")


def _metrics() -> tuple[MetricSpec, ...]:
    gains = [
        r2_metric(f"pair_{name}_gain", f"pair: {name}, gain over one view", headline=True)
        for name in COMPONENTS
    ]
    equal_label = "pair: scale, sharpness equalised, gain over one view"
    equal_gain = r2_metric("pair_scale_equal_gain", equal_label, headline=True)
    controls, mlps = (
        [
            r2_metric(f"pair_{name}_{key}", f"pair: {name}, {label}", shown=key in _SHOWN)
            for key, label in labels.items()
            for name in COMPONENTS
        ]
        for labels in (_CONTROLS, _MLP)
    )
    errors = [
        MetricSpec(
            f"pair_{name}_error",
            f"pair: {name}, mean absolute error {unit}",
            headline=False,
            higher_is_better=False,
            shown=False,
        )
        for name, unit in zip(COMPONENTS, _UNITS, strict=True)
    ]
    by_subset = [
        r2_metric(
            f"pair_{name}_gain_{subset}", f"pair: {name}, gain over one view, {label}", shown=False
        )
        for subset, label in SUBSETS.items()
        for name in ("shift", "scale")
    ]
    return *gains, equal_gain, *controls, *errors, *mlps, *by_subset


def run(context: TaskContext) -> dict[str, float]:
    """Fit probes on pairs from the training images, score them on pairs from the test images."""
    backbone, splits = context.backbone, context.splits
    fit, score = crop_features(backbone, splits, MAX_PAIRS)
    equal = crop_features(backbone, splits, MAX_PAIRS, equal_sharpness=True)
    both, target = predict_from_both(fit, score), score.targets.double()
    ones = predict_from_one(fit, score)
    scores = {
        "r2": r2(both, target),
        "one": torch.maximum(*(r2(one, target) for one in ones)),
        "shuffled": r2_of_both(shuffle_partners(fit), shuffle_partners(score)),
        "random": r2_of_both(*crop_features(context.untrained, splits, MAX_PAIRS)),
        "equal": r2_of_both(*equal),
        "equal_one": r2_of_one(*equal),
        "mlp": r2_of_both(fit, score, predict_mlp),
        "mlp_one": r2_of_one(fit, score, predict_mlp),
        "error": _errors(both, target),
    }
    scores["gain"] = scores["r2"] - scores["one"]
    scores["mlp_gain"] = scores["mlp"] - scores["mlp_one"]
    metrics = by_component(scores, "pair")
    metrics["pair_scale_equal_gain"] = float((scores["equal"] - scores["equal_one"])[2])
    subsets = find_subsets(score.crops)
    for subset, (shift, scale) in gains_by_subset(subsets, both, ones, target).items():
        metrics[f"pair_shift_gain_{subset}"] = shift
        metrics[f"pair_scale_gain_{subset}"] = scale
    return metrics


def _errors(prediction: Tensor, target: Tensor) -> Tensor:
    error = (prediction - target).abs().mean(dim=0)
    error[2] /= math.log(2)  # sigma is a natural logarithm
    return error


TASK = Task("pair", _metrics(), run, load_unlabelled, quality=SPATIAL)
