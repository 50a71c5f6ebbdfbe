"""Pair interaction: relative position and scale from two crops jointly, beyond each one alone.

The pair task's probe is linear in [a; b]: it adds what crop a predicts to what crop b predicts. The
interaction of the two, such as a line that continues or light from one side, is in no such sum,
but SP trains for it. Here a small MLP gets both crops, of many more pairs, with equal sharpness.
Controls: one crop alone, both separately (a function of one minus the same function of the other),
a random backbone.
"""

from __future__ import annotations

from sp_bench.data.dataset import ImageDataset
from sp_bench.data.load import load_unlabelled
from sp_bench.frozen_backbone import FrozenBackbone
from sp_bench.results import MetricSpec
from sp_bench.tasks.pair import COMPONENTS, r2_metric
from sp_bench.tasks.pair_interaction_probe import (
    CropFeatures,
    predict_from_first,
    predict_jointly,
    predict_separately,
)
from sp_bench.tasks.pair_sampling import SampledCrops, extract_crop_features, sample_crop_groups
from sp_bench.tasks.task import SPATIAL, Task, TaskContext, require_two_images
from sp_plugin.objective.loss import r2
from sp_plugin.objective.pairs import sample_pairs

# Four crops of an image are six pairs for the cost of two: encoding is most of it.
_NUM_CROPS = 4
_FIT_IMAGES, _SCORE_IMAGES = 4000, 1500

_CONTROLS = {
    "r2": "both views",
    "one": "one view alone",
    "apart": "both views separately",
    "random": "random backbone",
}


def _metrics() -> tuple[MetricSpec, ...]:
    gains = {
        "gain": "mean, gain over one view",
        "beyond": "mean, beyond separate views",
        **{f"{name}_gain": f"{name}, gain over one view" for name in COMPONENTS},
    }
    headlines = [
        r2_metric(f"pair_interaction_{key}", f"pair interaction: {label}", headline=True)
        for key, label in gains.items()
    ]
    controls = [
        r2_metric(f"pair_interaction_{name}_{key}", f"pair interaction: {name}, {label}")
        for key, label in _CONTROLS.items()
        for name in COMPONENTS
    ]
    return *headlines, *controls


def run(context: TaskContext) -> dict[str, float]:
    """Fit MLPs on crops of the training images, and score them on crops of the test images."""
    require_two_images(context.splits)
    train, test, backbone = context.splits.train, context.splits.test, context.backbone
    sizes = backbone.side, backbone.crop_size
    fit_crops = sample_crop_groups(len(train), _FIT_IMAGES, *sizes, 0, _NUM_CROPS)
    score_crops = sample_crop_groups(len(test), _SCORE_IMAGES, *sizes, 1, _NUM_CROPS)
    fit, score = _extract(backbone, train, fit_crops), _extract(backbone, test, score_crops)
    untrained = context.untrained
    random = _extract(untrained, train, fit_crops), _extract(untrained, test, score_crops)
    scores = {
        "r2": r2(predict_jointly(fit, score), score.targets),
        "one": r2(predict_from_first(fit, score), score.targets),
        "apart": r2(predict_separately(fit, score), score.targets),
        "random": r2(predict_jointly(*random), score.targets),
    }
    scores["gain"] = scores["r2"] - scores["one"]
    metrics = {
        f"pair_interaction_{name}_{key}": float(value)
        for key, values in scores.items()
        for name, value in zip(COMPONENTS, values, strict=True)
    }
    metrics["pair_interaction_gain"] = float(scores["gain"].mean())
    metrics["pair_interaction_beyond"] = float((scores["r2"] - scores["apart"]).mean())
    return metrics


def _extract(backbone: FrozenBackbone, images: ImageDataset, crops: SampledCrops) -> CropFeatures:
    shown = backbone.images(images)
    features = extract_crop_features(backbone, shown, crops, crops.resolution)
    return CropFeatures(features, crops.targets_of(sample_pairs(len(features))))


TASK = Task("pair_interaction", _metrics(), run, load_unlabelled, quality=SPATIAL)
