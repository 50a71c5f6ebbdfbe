"""Jigsaw: the position of each patch of an image in a grid, from frozen features.

A linear probe scores each patch for each position, and the Hungarian method assigns every
position once. The paper's second evaluation, after Noroozi and Favaro (ECCV 2016).
"""

from __future__ import annotations

import math

from sp_bench.data.load import load_unlabelled
from sp_bench.results import MetricSpec
from sp_bench.tasks.jigsaw_probe import solve_jigsaws
from sp_bench.tasks.task import (
    SPATIAL,
    Task,
    TaskContext,
    percent_control,
    require_two_images,
)

GRIDS = (2, 3)


def _metrics() -> tuple[MetricSpec, ...]:
    metrics = []
    for n in GRIDS:
        for name, label, chance in (
            ("piece", "patches put right", 1 / n**2),
            ("perfect", "images wholly right", 1 / math.factorial(n**2)),
        ):
            key, text = f"jigsaw_{n}x{n}_{name}", f"jigsaw {n}x{n}: {label}"
            metrics += [
                MetricSpec(key, text, percent=True, chance=chance),
                percent_control(f"{key}_random", f"{text}, random backbone", chance),
            ]
    return tuple(metrics)


def run(context: TaskContext) -> dict[str, float]:
    """Fractions of correct patches and of wholly correct images, also of a random backbone."""
    require_two_images(context.splits)
    metrics = {}
    for n in GRIDS:
        for backbone, suffix in ((context.backbone, ""), (context.untrained, "_random")):
            solution = solve_jigsaws(backbone, context.splits, n)
            metrics[f"jigsaw_{n}x{n}_piece{suffix}"] = solution.piece
            metrics[f"jigsaw_{n}x{n}_perfect{suffix}"] = solution.perfect
    return metrics


TASK = Task("jigsaw", _metrics(), run, load_unlabelled, quality=SPATIAL)
