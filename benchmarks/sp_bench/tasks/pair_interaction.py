"""Relation: what two crops tell together that neither tells alone.

The pair task's probe is linear in [a; b]: it adds what crop a tells of where it lies to what crop b
tells. How the two fit each other, a line that goes on or light that falls from one side, is in no
such sum, and it is what SP asks for. Here a small MLP sees both crops, of many more pairs, all as
sharp as each other. Controls: one crop alone, both asked apart (what one tells less what the other
tells), a random backbone.
"""

from __future__ import annotations

from sp_bench.data.dataset import ImageDataset
from sp_bench.data.unlabelled_folder import images_without_labels
from sp_bench.frozen_backbone import FrozenBackbone, UnmeasurableError
from sp_bench.results import MetricSpec
from sp_bench.tasks import Task, TaskContext
from sp_bench.tasks.pair import COMPONENTS
from sp_bench.tasks.pair_interaction_probe import Crops, apart, one_alone, together
from sp_bench.tasks.pair_sampling import Draws, draw_pairs, encode_pairs
from sp_plugin.objective.loss import r2
from sp_plugin.objective.pairs import sample_pairs

# Four crops of an image are six pairs for the price of two: encoding is most of the cost.
_CROPS = 4
_FIT_PICTURES, _SCORE_PICTURES = 4000, 1500

_CONTROLS = {
    "r2": "both views",
    "one": "one view alone",
    "apart": "both views asked apart",
    "random": "random backbone",
}


def _figures() -> tuple[MetricSpec, ...]:
    gains = [
        MetricSpec(
            f"relation_{name}_gain", f"relation: {name}, gain over one view (R2)", chance=0.0
        )
        for name in COMPONENTS
    ]
    controls = [
        MetricSpec(
            f"relation_{name}_{key}", f"relation: {name}, {label} (R2)", headline=False, chance=0.0
        )
        for key, label in _CONTROLS.items()
        for name in COMPONENTS
    ]
    return (
        MetricSpec("relation_gain", "relation: mean, gain over one view (R2)", chance=0.0),
        MetricSpec(
            "relation_beyond", "relation: mean, gain over views asked apart (R2)", chance=0.0
        ),
        *gains,
        *controls,
    )


def run(subject: TaskContext) -> dict[str, float]:
    """Fit MLPs on crops of the training images, score them on crops of the others."""
    train, test, backbone = subject.splits.train, subject.splits.test, subject.backbone
    if min(len(train), len(test)) < 2:
        raise UnmeasurableError("data: a relation takes two images in each split")
    frame, crop = backbone.side, backbone.crop
    parts = [
        (train, draw_pairs(len(train), _FIT_PICTURES, frame, crop, 0, _CROPS)),
        (test, draw_pairs(len(test), _SCORE_PICTURES, frame, crop, 1, _CROPS)),
    ]
    fit, score = (_crops(backbone, *each) for each in parts)
    random = [_crops(subject.untrained, *each) for each in parts]
    told = {
        "r2": r2(together(fit, score), score.targets),
        "one": r2(one_alone(fit, score), score.targets),
        "apart": r2(apart(fit, score), score.targets),
        "random": r2(together(*random), score.targets),
    }
    gain = told["r2"] - told["one"]
    figures = {
        f"relation_{name}_{key}": float(value)
        for key, values in {**told, "gain": gain}.items()
        for name, value in zip(COMPONENTS, values, strict=True)
    }
    beyond = told["r2"] - told["apart"]
    return {
        **figures,
        "relation_gain": float(gain.mean()),
        "relation_beyond": float(beyond.mean()),
    }


def _crops(backbone: FrozenBackbone, images: ImageDataset, draws: Draws) -> Crops:
    shown = backbone.images(images)
    features = encode_pairs(backbone, shown, draws, draws.resolution)
    return Crops(features, draws.targets_of(sample_pairs(len(features))))


TASK = Task("relation", _figures(), run, images_without_labels)
