"""The tasks: what a backbone is worth. One file each, which defines ``TASK = Task(...)``.

A file here without a ``TASK`` is a part of one. Whatever a task draws depends on the data and on
`EVALUATION_SEED`, never on the arm or its seed: all backbones are asked the same questions.
"""

from __future__ import annotations

import importlib
import logging
import math
import pkgutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import torch
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]
from torch import Tensor

from sp_bench.data.dataset import DataError, Splits
from sp_bench.data.load import load_data
from sp_bench.frozen_backbone import FrozenBackbone, UnmeasurableError
from sp_bench.results import MetricSpec
from sp_plugin.isolation import make_generator, private_rng
from sp_plugin.validation import ConfigError, did_you_mean

log = logging.getLogger("sp_bench")

EVALUATION_SEED = 2605

# What a comparison measures where it is not told what.
DEFAULT_TASKS = ("knn", "linear", "pair")


@dataclass(frozen=True)
class TaskContext:
    """What a task is about.

    Attributes:
        backbone: pre-trained.
        untrained: the same architecture with random weights, a control.
        splits: the task's images; probes are fitted on ``train`` and scored on ``test``.
        seed: of the pre-training.
    """

    backbone: FrozenBackbone
    untrained: FrozenBackbone
    splits: Splits
    seed: int


Load = Callable[[str | None, Splits | None], Splits]


def same_or_given(given: str | None, main: Splits | None) -> Splits:
    """The images in classes that were given for a task, else those of all tasks.

    Args:
        given: as `load_data` takes it, or None.
        main: the images of all tasks, or None.

    Raises:
        DataError: neither was given, or they cannot be used.
    """
    if given is not None:
        return load_data(given)
    if main is None:
        raise DataError("it takes images in classes")
    return main


@dataclass(frozen=True)
class Task:
    """A question to a frozen backbone, and the figures that answer it.

    Attributes:
        name: as it is asked for.
        figures: in the order of the table; no key may be another task's.
        run: from a subject to `MetricSpec.key` and value. It raises `UnmeasurableError` where there
            is no number to give.
        load: from what was given as the task's own data, and the images of all tasks, to those
            that it is asked about. It raises `DataError` where they will not do; None stands for
            what was not given.
    """

    name: str
    figures: tuple[MetricSpec, ...]
    run: Callable[[TaskContext], dict[str, float]]
    load: Load = same_or_given


def subsample(count: int, most: int) -> Tensor:
    """Which of ``count`` images are asked about: all, or ``most`` at random, the same for all.

    >>> some(3, 5).tolist(), len(some(100, 5))
    ([0, 1, 2], 5)
    """
    order = torch.randperm(count, generator=make_generator(EVALUATION_SEED, count))
    return order[:most].sort().values


@cache
def _found() -> tuple[Task, ...]:
    names = sorted(module.name for module in pkgutil.iter_modules(__path__))
    modules = [importlib.import_module(f"{__name__}.{name}") for name in names]
    return tuple(module.TASK for module in modules if hasattr(module, "TASK"))


def all_tasks() -> dict[str, Task]:
    """Every task of this folder by name, in the order of their files' names.

    >>> [name for name in all_tasks() if name in DEFAULT_TASKS]
    ['knn', 'linear', 'pair']
    """
    return {task.name: task for task in _found()}


def find_tasks(names: Sequence[str]) -> list[Task]:
    """The tasks of these names, in this order, each once.

    Raises:
        ConfigError: there is no such task; the line names the nearest.

    >>> find_tasks(["lineer"])
    Traceback (most recent call last):
    sp_plugin.validation.ConfigError: tasks: there is no 'lineer'; did you mean 'linear'?
    """
    known = all_tasks()
    for name in names:
        if name not in known:
            raise ConfigError(f"tasks: there is no {name!r}; {did_you_mean(name, known)}")
    return [known[name] for name in dict.fromkeys(names)]


def run_task(task: Task, subject: TaskContext) -> dict[str, float]:
    """Run a task and hold it to what it promised.

    The global generators are left as they were; scikit-learn takes as many threads as torch.

    Returns:
        Its figures, in their order, all finite; or all NaN where the task raised
        `UnmeasurableError`, whose reason is logged.

    Raises:
        ValueError: the task gave other figures than it promised, or one that is not finite.
    """
    promised = [figure.key for figure in task.figures]
    try:
        # Left to itself BLAS takes every core, and on a busy machine waits for them tenfold.
        with (
            private_rng(EVALUATION_SEED, subject.backbone.device),
            threadpool_limits(torch.get_num_threads()),
        ):
            given = task.run(subject)
    except UnmeasurableError as error:
        log.warning("task %s, seed %d: not measured: %s", task.name, subject.seed, error)
        return dict.fromkeys(promised, math.nan)
    if given.keys() != set(promised):
        odd = sorted(given.keys() ^ set(promised))
        raise ValueError(f"task {task.name}: promised or given, but not both: {', '.join(odd)}")
    for key, value in given.items():
        if not math.isfinite(value):
            raise ValueError(f"task {task.name}: {key} is {value}, which is not finite")
    return {key: float(given[key]) for key in promised}
