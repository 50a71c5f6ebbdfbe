"""Position: where in its image a single crop lies, from frozen features.

The control of the pair task: a backbone that knows where each crop lies solves pairs without any
comparison of the two. Crops, splits and ridge probe are those of the pair task; the probe gets one
crop and predicts its center and half the logarithm of its area, as shares of the image. The
difference of two such predictions is a prediction for a pair: where its R2 is that of the pair
task, absolute positions explain the latter. Crops of unlike size differ in sharpness too, so the
size is no headline.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from sp_bench.data.load import load_unlabelled
from sp_bench.results import MetricSpec
from sp_bench.tasks.pair import MAX_PAIRS
from sp_bench.tasks.pair_probe import COMPONENTS, other_image_partners, predict_ridge, r2_metric
from sp_bench.tasks.pair_sampling import CropFeatures, SampledCrops, crop_features
from sp_bench.tasks.task import SPATIAL, Task, TaskContext
from sp_plugin.crops.boxes import box_area
from sp_plugin.objective.loss import r2

_LABELS = {"x": "x of a crop's center", "y": "y of a crop's center", "size": "size of a crop"}


def _metrics() -> tuple[MetricSpec, ...]:
    of_crops = [
        r2_metric(f"position_{name}", f"position: {label}", headline=name != "size")
        for name, label in _LABELS.items()
    ]
    controls = [
        r2_metric(f"position_{name}_{key}", f"position: {label}, {control}", shown=key == "random")
        for key, control in {"random": "random backbone", "shuffled": "another crop"}.items()
        for name, label in _LABELS.items()
    ]
    of_pairs = [
        r2_metric(f"position_pair_{name}", f"position: {name} of a pair from two positions")
        for name in COMPONENTS
    ]
    return *of_crops, *of_pairs, *controls


def run(context: TaskContext) -> dict[str, float]:
    """Fit probes on crops of the training images, score them on crops of the test images."""
    fit, score = crop_features(context.backbone, context.splits, MAX_PAIRS)
    random = crop_features(context.untrained, context.splits, MAX_PAIRS)
    target, prediction = crop_positions(score.crops), predict_positions(fit, score)
    predictions = {
        "": prediction,
        "_random": predict_positions(*random),
        "_shuffled": predict_positions(*map(_shuffle, (fit, score))),
    }
    metrics = {
        f"position_{name}{key}": float(value)
        for key, predicted in predictions.items()
        for name, value in zip(_LABELS, r2(*_rows(predicted, target)), strict=True)
    }
    a, b = prediction
    of_pairs = r2(b - a, score.targets.double())
    return metrics | {
        f"position_pair_{name}": float(value)
        for name, value in zip(COMPONENTS, of_pairs, strict=True)
    }


def crop_positions(crops: SampledCrops) -> Tensor:
    """Center and size of each crop, (k, n, 3): x, y and 1/2 ln(area), as shares of the image.

    >>> boxes = torch.tensor([[[0.25, 0.5, 0.5, 0.5]], [[0.5, 0.5, 1.0, 1.0]]])
    >>> crop_positions(SampledCrops(torch.zeros(1), boxes, torch.ones(1, 2))).tolist()
    [[[0.25, 0.5, -0.6931471824645996]], [[0.5, 0.5, 0.0]]]
    """
    return torch.cat([crops.boxes[..., :2], box_area(crops.boxes)[..., None].log() / 2], dim=-1)


def predict_positions(fit: CropFeatures, score: CropFeatures) -> Tensor:
    """Predictions of a ridge probe for the crops of ``score``, (k, m, 3), each from one crop."""
    rows = _rows(fit.features, crop_positions(fit.crops), score.features)
    return predict_ridge(*rows).unflatten(0, score.features.shape[:2])


def _shuffle(crops: CropFeatures) -> CropFeatures:
    """Each crop with the features of a crop of another image: nothing but the mean is left."""
    return replace(crops, features=crops.features[:, other_image_partners(crops.crops.image)])


def _rows(*values: Tensor) -> list[Tensor]:
    """Each (k, n, D) as (kn, D) of double precision."""
    return [value.flatten(0, 1).double() for value in values]


TASK = Task("position", _metrics(), run, load_unlabelled, quality=SPATIAL)
