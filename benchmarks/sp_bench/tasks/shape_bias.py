"""Shape bias: where shape and texture say different things, which does the probe go by?

Geirhos et al., ICLR 2019 (arXiv 1811.12231): N_shape / (N_shape + N_texture) over cue-conflict
images. The probe is the linear one of ordinary images; it chooses among the classes that the
cue-conflict images have.
"""

from __future__ import annotations

import numpy as np

from sp_bench.data.cue_conflict import CueConflictDataset, load_cues
from sp_bench.data.demo_cue_conflict import DemoCues
from sp_bench.frozen_backbone import FrozenBackbone, UnmeasurableError
from sp_bench.results import MetricSpec
from sp_bench.tasks import Task, TaskContext
from sp_bench.tasks.linear import probe_of


def decide(scores: np.ndarray, among: np.ndarray) -> np.ndarray:
    """The best of some classes, (n,).

    Args:
        scores: (n, classes).
        among: (k,), which classes may be chosen.

    >>> decide(np.array([[0.5, 0.2, 0.3]]), np.array([1, 2])).tolist()
    [2]
    """
    return np.asarray(among[scores[:, among].argmax(axis=1)])


def shape_bias(decided: np.ndarray, shapes: np.ndarray, textures: np.ndarray) -> float:
    """Share of decisions by shape among those by shape or texture; 0.5 where there are none.

    >>> shape_bias(np.array([0, 0, 1, 2]), np.array([0, 0, 0, 0]), np.array([1, 1, 1, 1]))
    0.6666666666666666
    """
    by_shape, by_texture = int((decided == shapes).sum()), int((decided == textures).sum())
    return by_shape / (by_shape + by_texture) if by_shape + by_texture else 0.5


def run(subject: TaskContext) -> dict[str, float]:
    """Decisions by shape and by texture, their share and their counts; of a random backbone too."""
    test = subject.splits.test
    if not isinstance(test, (CueConflictDataset, DemoCues)):
        raise UnmeasurableError("data: shape_bias takes cue-conflict images")
    shapes, textures = test.labels.numpy(), test.textures.numpy()
    among = np.union1d(shapes, textures)
    decided = _decided(subject.backbone, subject, among)
    random = _decided(subject.untrained, subject, among)
    by_shape, by_texture = int((decided == shapes).sum()), int((decided == textures).sum())
    return {
        "shape_bias": shape_bias(decided, shapes, textures),
        "shape_bias_decided": float(by_shape + by_texture),
        "shape_bias_images": float(len(test)),
        "shape_bias_by_shape": by_shape / len(test),
        "shape_bias_by_texture": by_texture / len(test),
        "shape_bias_by_chance": 1 / len(among),
        "shape_bias_random": shape_bias(random, shapes, textures),
    }


def _decided(backbone: FrozenBackbone, subject: TaskContext, among: np.ndarray) -> np.ndarray:
    probe = probe_of(backbone, subject.splits.train)
    if not set(among) <= set(probe.classes_):
        raise UnmeasurableError("data: some classes of the cues have no training images")
    scores = probe.predict_proba(backbone.features(subject.splits.test).numpy())
    # The probe's columns are the classes that it has seen.
    whole = np.zeros((len(scores), int(max(probe.classes_)) + 1))
    whole[:, probe.classes_] = scores
    return decide(whole, among)


TASK = Task(
    "shape_bias",
    (
        MetricSpec("shape_bias", "shape bias: N_shape / (N_shape + N_texture)", True, chance=0.5),
        MetricSpec("shape_bias_decided", "shape bias: N_shape + N_texture"),
        MetricSpec("shape_bias_images", "shape bias: images", headline=False),
        MetricSpec("shape_bias_by_shape", "shape bias: decided by shape", True, False),
        MetricSpec("shape_bias_by_texture", "shape bias: decided by texture", True, False),
        MetricSpec("shape_bias_by_chance", "shape bias: either by chance", True, False),
        MetricSpec("shape_bias_random", "shape bias: random backbone", True, False, chance=0.5),
    ),
    run,
    load_cues,
)
