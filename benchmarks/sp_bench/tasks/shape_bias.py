"""Shape bias: whether the linear probe decides by shape or by texture when they conflict.

Geirhos et al., ICLR 2019 (arXiv 1811.12231): N_shape / (N_shape + N_texture) over cue-conflict
images. The probe is fitted on ordinary images and chooses among the classes that occur in the
cue-conflict images.
"""

from __future__ import annotations

import numpy as np

from sp_bench.data.cue_conflict import CueConflictDataset, load_cues
from sp_bench.data.demo import DemoCues
from sp_bench.frozen_backbone import UnmeasurableError
from sp_bench.results import MetricSpec
from sp_bench.tasks.probe_decisions import probe_decisions
from sp_bench.tasks.task import Task, TaskContext, percent_control


def shape_bias(decisions: np.ndarray, shapes: np.ndarray, textures: np.ndarray) -> float:
    """Fraction of the decisions (n,) by shape among those by shape or texture; 0.5 if none.

    >>> shape_bias(np.array([0, 0, 1, 2]), np.array([0, 0, 0, 0]), np.array([1, 1, 1, 1]))
    0.6666666666666666
    """
    by_shape, by_texture = int((decisions == shapes).sum()), int((decisions == textures).sum())
    return by_shape / (by_shape + by_texture) if by_shape + by_texture else 0.5


def run(context: TaskContext) -> dict[str, float]:
    """Shape bias with its counts, and the shape bias of a random backbone."""
    test = context.splits.test
    if not isinstance(test, (CueConflictDataset, DemoCues)):
        raise UnmeasurableError("data: shape_bias takes cue-conflict images")
    shapes, textures = test.labels.numpy(), test.textures.numpy()
    allowed = np.union1d(shapes, textures)
    decisions, random = (
        probe_decisions(backbone, context.splits.train, test, allowed)
        for backbone in (context.backbone, context.untrained)
    )
    by_shape, by_texture = int((decisions == shapes).sum()), int((decisions == textures).sum())
    return {
        "shape_bias": shape_bias(decisions, shapes, textures),
        "shape_bias_decided": float(by_shape + by_texture),
        "shape_bias_images": float(len(test)),
        "shape_bias_by_shape": by_shape / len(test),
        "shape_bias_by_texture": by_texture / len(test),
        "shape_bias_by_chance": 1 / len(allowed),
        "shape_bias_random": shape_bias(random, shapes, textures),
    }


TASK = Task(
    "shape_bias",
    (
        MetricSpec("shape_bias", "shape bias: N_shape / (N_shape + N_texture)", True, chance=0.5),
        MetricSpec("shape_bias_decided", "shape bias: N_shape + N_texture", headline=False),
        MetricSpec("shape_bias_images", "shape bias: images", headline=False),
        percent_control("shape_bias_by_shape", "shape bias: decided by shape"),
        percent_control("shape_bias_by_texture", "shape bias: decided by texture"),
        percent_control("shape_bias_by_chance", "shape bias: either by chance"),
        percent_control("shape_bias_random", "shape bias: random backbone", chance=0.5),
    ),
    run,
    load_cues,
)
