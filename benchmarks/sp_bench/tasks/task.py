"""Task: one evaluation of a frozen backbone, and the rules that every task is held to.

All random draws of a task depend on the data and on `EVALUATION_SEED`, never on the arm or its
seed, so that all backbones are evaluated on the same images and crops.
"""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]
from torch import Tensor

from sp_bench.data.dataset import Splits
from sp_bench.data.load import load_labelled
from sp_bench.frozen_backbone import FrozenBackbone, UnmeasurableError
from sp_bench.results import MetricSpec
from sp_plugin.isolation import make_generator, private_rng

log = logging.getLogger("sp_bench")

EVALUATION_SEED = 2605
SPATIAL, SEMANTIC = "spatial", "semantic"


@dataclass(frozen=True)
class TaskContext:
    """Input of a task.

    Attributes:
        backbone: pre-trained backbone.
        untrained: the same architecture with random weights, as a control.
        splits: images of the task; probes are fitted on ``train`` and scored on ``test``.
        seed: seed of the pre-training.
        correct: which test images the task classified correctly, by metric, as by `pack_correct`;
            the task may add to it.
        rgb: channels that ``examples`` show as red, green and blue; None: see `RGBDisplay`.
        examples: small tensors by name for the report to draw, stored next to the metrics; the
            task may add to it.
    """

    backbone: FrozenBackbone
    untrained: FrozenBackbone
    splits: Splits
    seed: int
    correct: dict[str, str] = field(default_factory=dict)
    rgb: tuple[int, ...] | None = None
    examples: dict[str, Tensor] = field(default_factory=dict)


Load = Callable[[str | None, Splits | None], Splits]


@dataclass(frozen=True)
class Task:
    """An evaluation of a frozen backbone.

    Attributes:
        name: name in ``--tasks``.
        metrics: specs of the metrics in the order of the table; keys are unique over all tasks.
        run: function from a context to metrics by `MetricSpec.key`; raises `UnmeasurableError` if
            there is no number to return.
        load: function from the task's own source and the images of all tasks, each possibly None,
            to the images of this task; raises `DataError` if they cannot be used.
        quality: ``spatial`` or ``semantic`` for the ranking of models; empty (default): neither.
        retired: metrics of earlier definitions, which only published results have.
        needs_own_data: whether ``all`` leaves it out where it has no data of its own.
    """

    name: str
    metrics: tuple[MetricSpec, ...]
    run: Callable[[TaskContext], dict[str, float]]
    load: Load = load_labelled
    quality: str = ""
    retired: tuple[MetricSpec, ...] = ()
    needs_own_data: bool = False


def percent_control(key: str, label: str, chance: float | None = None) -> MetricSpec:
    """Spec of a metric in percent that is a control, not a headline."""
    return MetricSpec(key, label, percent=True, headline=False, chance=chance)


def most_frequent(labels: Tensor) -> float:
    """Accuracy of the answer that is right most often.

    >>> most_frequent(torch.tensor([0, 2, 2, 1]))
    0.5
    """
    return float(labels.bincount().max() / len(labels))


def subsample(count: int, max_count: int) -> Tensor:
    """Increasing indices of at most ``max_count`` of ``count`` images, the same in every call.

    >>> subsample(3, 5).tolist(), len(subsample(100, 5))
    ([0, 1, 2], 5)
    """
    order = torch.randperm(count, generator=make_generator(EVALUATION_SEED, count))
    return order[:max_count].sort().values


def require_two_images(splits: Splits) -> None:
    """Check that both splits have two images or more.

    Raises:
        UnmeasurableError: a split has fewer.
    """
    train, test = len(splits.train), len(splits.test)
    if min(train, test) < 2:
        raise UnmeasurableError(
            f"data: got {train} training and {test} test images, takes at least two images of each"
        )


def run_task(task: Task, context: TaskContext) -> dict[str, float]:
    """Run a task and check its metrics.

    The global generators are left unchanged. scikit-learn uses as many threads as torch.

    Returns:
        The task's metrics in their order, all finite; or all NaN if the task raised
        `UnmeasurableError`, whose reason is logged.

    Raises:
        ValueError: a metric is missing, is not one of the task's, or is not finite.
    """
    keys = [metric.key for metric in task.metrics]
    try:
        # By default BLAS takes every core, and on a busy machine waits ten times as long for them.
        with (
            private_rng(EVALUATION_SEED, context.backbone.device),
            threadpool_limits(torch.get_num_threads()),
            warnings.catch_warnings(),
        ):
            # Probes stop at a fixed number of iterations, for all backbones alike.
            warnings.simplefilter("ignore", ConvergenceWarning)
            metrics = task.run(context)
    except UnmeasurableError as error:
        log.warning("task %s, seed %d: not measured: %s", task.name, context.seed, error)
        return dict.fromkeys(keys, math.nan)
    if metrics.keys() != set(keys):
        odd = sorted(metrics.keys() ^ set(keys))
        raise ValueError(f"task {task.name}: metrics missing or not specified: {', '.join(odd)}")
    for key, value in metrics.items():
        if not math.isfinite(value):
            raise ValueError(f"task {task.name}: {key} is {value}, which is not finite")
    return {key: float(metrics[key]) for key in keys}
