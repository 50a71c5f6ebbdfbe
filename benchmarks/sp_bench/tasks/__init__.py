"""Evaluation tasks: one file each, which defines ``TASK = Task(...)`` and is found by that.

The other files of this folder hold parts of tasks.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Sequence
from functools import cache

from sp_bench.tasks.task import (
    EVALUATION_SEED,
    SEMANTIC,
    SPATIAL,
    Task,
    TaskContext,
    run_task,
)
from sp_plugin.validation import ConfigError, did_you_mean

__all__ = [
    "EVALUATION_SEED",
    "SEMANTIC",
    "SPATIAL",
    "Task",
    "TaskContext",
    "all_tasks",
    "find_tasks",
    "run_task",
]

DEFAULT_TASKS = ("knn", "linear", "pair", "pair_interaction", "rank")


@cache
def _discover() -> tuple[Task, ...]:
    names = sorted(module.name for module in pkgutil.iter_modules(__path__))
    modules = [importlib.import_module(f"{__name__}.{name}") for name in names]
    return tuple(module.TASK for module in modules if hasattr(module, "TASK"))


def all_tasks() -> dict[str, Task]:
    """Every task of this folder by name, in the order of their file names.

    >>> [name for name in all_tasks() if name in DEFAULT_TASKS]
    ['knn', 'linear', 'pair', 'pair_interaction', 'rank']
    """
    return {task.name: task for task in _discover()}


def find_tasks(names: Sequence[str]) -> list[Task]:
    """Tasks by name, in the given order and without duplicates.

    Raises:
        ConfigError: a name is unknown; the message has the nearest one.

    >>> find_tasks(["lineer"])
    Traceback (most recent call last):
    sp_plugin.validation.ConfigError: tasks: there is no 'lineer'; did you mean 'linear'?
    """
    known = all_tasks()
    for name in names:
        if name not in known:
            raise ConfigError(f"tasks: there is no {name!r}; {did_you_mean(name, known)}")
    return [known[name] for name in dict.fromkeys(names)]
