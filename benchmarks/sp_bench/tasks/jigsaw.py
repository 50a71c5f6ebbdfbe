"""Jigsaw: can the patches of an image be put back in their places from frozen features alone?

A linear probe scores each patch for each place, and the Hungarian method gives every place once.
The paper's second evaluation, after Noroozi and Favaro (ECCV 2016).
"""

from __future__ import annotations

import math

from sp_bench.data.unlabelled_folder import images_without_labels
from sp_bench.frozen_backbone import UnmeasurableError
from sp_bench.results import MetricSpec
from sp_bench.tasks import Task, TaskContext
from sp_bench.tasks.jigsaw_probe import solve

GRIDS = (2, 3)


def _figures() -> tuple[MetricSpec, ...]:
    figures = []
    for n in GRIDS:
        name, key = f"jigsaw {n}x{n}", f"jigsaw_{n}x{n}"
        chance = {"piece": 1 / n**2, "perfect": 1 / math.factorial(n**2)}
        told = {"piece": "patches put right", "perfect": "images wholly right"}
        for what, words in told.items():
            at = chance[what]
            figures.append(MetricSpec(f"{key}_{what}", f"{name}: {words}", percent=True, chance=at))
            figures.append(
                MetricSpec(
                    f"{key}_{what}_random",
                    f"{name}: {words}, random backbone",
                    percent=True,
                    headline=False,
                    chance=at,
                )
            )
    return tuple(figures)


def run(subject: TaskContext) -> dict[str, float]:
    """Shares of patches and of images put right, by this backbone and by a random one."""
    if min(len(subject.splits.train), len(subject.splits.test)) < 2:
        raise UnmeasurableError("data: a jigsaw takes two images in each split")
    figures = {}
    for n in GRIDS:
        for backbone, end in ((subject.backbone, ""), (subject.untrained, "_random")):
            solved = solve(backbone, subject.splits, n)
            figures[f"jigsaw_{n}x{n}_piece{end}"] = solved.piece
            figures[f"jigsaw_{n}x{n}_perfect{end}"] = solved.perfect
    return figures


TASK = Task("jigsaw", _figures(), run, images_without_labels)
