"""Jigsaw: the position of each patch of an image in a grid, from frozen features.

A linear probe scores each patch for each position, and the Hungarian method assigns every
position once. The paper's second evaluation, after Noroozi and Favaro (ECCV 2016).
"""

from __future__ import annotations

import math

from torch import Tensor

from sp_bench.data.load import load_unlabelled
from sp_bench.results import MetricSpec
from sp_bench.tasks.examples import displayable
from sp_bench.tasks.jigsaw_patches import assemble, patch_boxes
from sp_bench.tasks.jigsaw_probe import JigsawSolution, solve_jigsaws
from sp_bench.tasks.task import (
    SPATIAL,
    Task,
    TaskContext,
    percent_control,
    require_two_images,
    subsample,
)

GRIDS = (2, 3)
_NUM_EXAMPLES = 6


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
            if backbone is context.backbone:
                context.examples.update(_examples(context, solution, n))
    return metrics


def _examples(context: TaskContext, solution: JigsawSolution, n: int) -> dict[str, Tensor]:
    """Some test images as the probe assembles them, and the patch at each position.

    The same ones for every backbone, drawn without a look at the solution.
    """
    shown = subsample(len(solution.indices), _NUM_EXAMPLES)
    images = context.backbone.images(context.splits.test)[solution.indices[shown]]
    boxes = patch_boxes(len(solution.indices), n, part=1)[shown]
    laid = solution.laid[shown]
    assembled = assemble(displayable(images, context.rgb), boxes, laid)
    return {f"{n}x{n}": assembled, f"{n}x{n}_laid": laid}


TASK = Task("jigsaw", _metrics(), run, load_unlabelled, quality=SPATIAL)
