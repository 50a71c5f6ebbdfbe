"""Images of each task: from ``--data`` to splits, with each source loaded once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sp_bench.data import DataError, Splits, load_data
from sp_bench.data.depth import load_depths
from sp_bench.data.load import load_labelled, load_unlabelled
from sp_bench.data.segmentation_masks import load_masks
from sp_bench.errors import UsageError
from sp_bench.tasks import Task, all_tasks
from sp_plugin.validation import did_you_mean

# Tasks with these loaders do not use the images of all tasks if they have their own.
_INDEPENDENT = (load_labelled, load_masks, load_depths)


def load_main(
    source: str,
    tasks: Sequence[Task],
    task_data: Mapping[str, str],
    *,
    limit: int | None = None,
    validation: bool = False,
) -> Splits:
    """The images of all tasks; a folder without classes will do if no task uses its classes.

    Args:
        source: as for `load_data`.
        tasks: tasks that will be run.
        task_data: source of each task that has its own.
        limit: largest number of training images.
        validation: as for `load_data`.

    Raises:
        DataError: the source cannot be used.
    """
    labelled = not all(
        task.load is load_unlabelled or (task.name in task_data and task.load in _INDEPENDENT)
        for task in tasks
    )
    return load_data(source, limit=limit, validation=validation, labelled=labelled)


class Sources:
    """Images of all tasks, and those that tasks have as their own.

    Tasks with the same source share its images, so that their features are extracted once.

    Args:
        main: images of all tasks.
        task_data: source of each task that has its own.
    """

    def __init__(self, main: Splits | None, task_data: Mapping[str, str]) -> None:
        self.main = main
        self._task_data = task_data
        self._loaded: dict[tuple[Any, str | None], Splits] = {}

    def of(self, task: Task) -> Splits:
        """Images of a task.

        Raises:
            DataError: there are none, or they cannot be used; the message names the task.
        """
        source = self._task_data.get(task.name)
        key = (task.load, source)
        if key not in self._loaded:
            try:
                self._loaded[key] = task.load(source, self.main)
            except DataError as error:
                raise DataError(f"task {task.name}: {error}") from error
        return self._loaded[key]


def parse_sources(options: Sequence[str]) -> tuple[str | None, dict[str, str]]:
    """Values of ``--data`` as the source of all tasks and the sources of single tasks.

    Args:
        options: ``SOURCE``, at most once, and ``TASK=SOURCE``, at most once per task.

    Raises:
        UsageError: two sources for the same, or an unknown task; the message has the nearest name.

    >>> parse_sources(["scenes", "pair=photographs"])
    ('scenes', {'pair': 'photographs'})
    >>> parse_sources(["piar=photographs"])
    Traceback (most recent call last):
    sp_bench.errors.UsageError: data: no task 'piar'; did you mean 'pair'?
    """
    main: str | None = None
    task_data: dict[str, str] = {}
    for option in options:
        name, sign, source = option.partition("=")
        if not sign or "/" in name:
            if main is not None:
                raise UsageError(f"data: got {main!r} and {option!r}, takes one, and TASK=DATA")
            main = option
            continue
        if name not in all_tasks():
            raise UsageError(f"data: no task {name!r}; {did_you_mean(name, all_tasks())}")
        if name in task_data or not source:
            raise UsageError(f"data: got {option!r}, takes TASK=DATA, once for each task")
        task_data[name] = source
    return main, task_data
