"""Recognition after a jigsaw: are images still known when they are put together from patches?

The linear probe of whole images is asked about test images made of their patches: in place,
put together by the jigsaw's probe, and in disorder. The first is what the second can reach, the
third what it is worth to put nothing in order.
"""

from __future__ import annotations

import torch

from sp_bench.results import MetricSpec
from sp_bench.tasks import EVALUATION_SEED, Task, TaskContext
from sp_bench.tasks.jigsaw import GRIDS
from sp_bench.tasks.jigsaw_patches import assemble, patch_boxes
from sp_bench.tasks.jigsaw_probe import solve
from sp_bench.tasks.linear import probe_of
from sp_plugin.isolation import make_generator

_ORDERS = {
    "reassembled": "reassembled by the probe",
    "intact": "patches in their places",
    "shuffled": "patches in disorder",
}


def _figures() -> tuple[MetricSpec, ...]:
    figures = [
        MetricSpec(
            f"jigsaw_{n}x{n}_{order}",
            f"jigsaw {n}x{n}: recognition, {words} (top-1)",
            percent=True,
            headline=order == "reassembled",
        )
        for n in GRIDS
        for order, words in _ORDERS.items()
    ]
    chance = MetricSpec(
        "jigsaw_recognition_chance",
        "jigsaw: recognition, most frequent class",
        percent=True,
        headline=False,
    )
    return *figures, chance


def run(subject: TaskContext) -> dict[str, float]:
    """Top-1 on images made of patches, for each grid and each order of the patches."""
    backbone, test = subject.backbone, subject.splits.test
    probe = probe_of(backbone, subject.splits.train)
    labels = test.labels.numpy()
    figures = {"jigsaw_recognition_chance": float(test.labels.bincount().max() / len(test))}
    for n in GRIDS:
        solved = solve(backbone, subject.splits, n)
        frames = backbone.images(test)[solved.few]
        boxes = patch_boxes(len(frames), n, part=1)
        generator = make_generator(EVALUATION_SEED, n)
        orders = {
            "intact": torch.arange(n * n).expand(len(frames), -1),
            "reassembled": solved.laid,
            "shuffled": torch.rand(len(frames), n * n, generator=generator).argsort(dim=1),
        }
        for order, places in orders.items():
            features = torch.cat(
                [
                    backbone.encode(assemble(*part))
                    for part in zip(
                        *(each.split(backbone.batch_size) for each in (frames, boxes, places)),
                        strict=True,
                    )
                ]
            )
            found = probe.predict(features.numpy())
            figures[f"jigsaw_{n}x{n}_{order}"] = float((found == labels[solved.few]).mean())
    return figures


TASK = Task("jigsaw_recognition", _figures(), run)
