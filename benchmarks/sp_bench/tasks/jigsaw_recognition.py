"""Recognition after a jigsaw: accuracy on images that are assembled from their patches.

The linear probe of whole images is applied to test images made of their patches: as the jigsaw's
probe assembles them, with all patches in place (the upper bound), and shuffled (the lower bound).
"""

from __future__ import annotations

import torch
from torch import Tensor

from sp_bench.frozen_backbone import FrozenBackbone
from sp_bench.results import MetricSpec
from sp_bench.tasks.jigsaw import GRIDS
from sp_bench.tasks.jigsaw_patches import assemble, patch_boxes
from sp_bench.tasks.jigsaw_probe import solve_jigsaws
from sp_bench.tasks.linear import cached_probe
from sp_bench.tasks.task import (
    EVALUATION_SEED,
    SEMANTIC,
    Task,
    TaskContext,
    most_frequent,
    percent_control,
)
from sp_plugin.isolation import make_generator

_ORDERS = {
    "reassembled": "reassembled by the probe",
    "intact": "patches in their places",
    "shuffled": "patches in disorder",
}


def _metrics() -> tuple[MetricSpec, ...]:
    metrics = [
        MetricSpec(
            f"jigsaw_{n}x{n}_{order}",
            f"jigsaw {n}x{n}: recognition, {label} (top-1)",
            percent=True,
            headline=order == "reassembled",
        )
        for n in GRIDS
        for order, label in _ORDERS.items()
    ]
    key, label = "jigsaw_recognition_chance", "jigsaw: recognition, most frequent class"
    return *metrics, percent_control(key, label)


def run(context: TaskContext) -> dict[str, float]:
    """Top-1 accuracy for each grid and each order of the patches."""
    backbone, test = context.backbone, context.splits.test
    probe = cached_probe(backbone, context.splits.train)
    metrics = {"jigsaw_recognition_chance": most_frequent(test.labels)}
    for n in GRIDS:
        solution = solve_jigsaws(backbone, context.splits, n)
        labels = test.labels[solution.indices].numpy()
        images = backbone.images(test)[solution.indices]
        boxes = patch_boxes(len(images), n, part=1)
        generator = make_generator(EVALUATION_SEED, n)
        orders = {
            "intact": torch.arange(n * n).expand(len(images), -1),
            "reassembled": solution.laid,
            "shuffled": torch.rand(len(images), n * n, generator=generator).argsort(dim=1),
        }
        for order, patches in orders.items():
            features = _extract_assembled(backbone, images, boxes, patches)
            accuracy = (probe.predict(features.numpy()) == labels).mean()
            metrics[f"jigsaw_{n}x{n}_{order}"] = float(accuracy)
    return metrics


def _extract_assembled(
    backbone: FrozenBackbone, images: Tensor, boxes: Tensor, patches: Tensor
) -> Tensor:
    batches = zip(*(t.split(backbone.batch_size) for t in (images, boxes, patches)), strict=True)
    return torch.cat([backbone.extract(assemble(*batch)) for batch in batches])


TASK = Task("jigsaw_recognition", _metrics(), run, quality=SEMANTIC)
