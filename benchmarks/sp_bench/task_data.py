"""Tasks and their images: from ``--data`` and ``--tasks``, or a TOML file, to splits.

The file has ``data``, the source of all tasks; ``tasks``; and a table ``[task_data]`` with the
source of each task that has its own.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from sp_bench.data import DataError, Splits, load_data
from sp_bench.data.depth import load_depths
from sp_bench.data.load import load_labelled, load_unlabelled
from sp_bench.data.point_pairs import load_point_pairs
from sp_bench.data.segmentation_masks import load_masks
from sp_bench.errors import UsageError
from sp_bench.tasks import DEFAULT_TASKS, Task, all_tasks
from sp_plugin.validation import did_you_mean

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_UNLABELLED = (load_unlabelled, load_point_pairs)
# Tasks with these loaders do not use the images of all tasks if they have their own.
_INDEPENDENT = (load_labelled, load_masks, load_depths)
# Loaders of the same images; without labels a flat folder will do too.
_SAME_IMAGES: dict[Any, Any] = {load_labelled: load_unlabelled, load_unlabelled: load_labelled}


class TaskSelection(NamedTuple):
    """Tasks and the sources of their images.

    Attributes:
        data: source of all tasks.
        task_data: source of each task that has its own.
        tasks: names of the tasks in order.
    """

    data: str | None
    task_data: dict[str, str]
    tasks: tuple[str, ...]


def select_tasks(data: Sequence[str], tasks: str, tasks_from: Path | None) -> TaskSelection:
    """Parse ``--data``, ``--tasks`` and ``--tasks-from``; folders become absolute.

    Args:
        data: values of ``--data``, as for `parse_sources`.
        tasks: names separated by commas, ``all``, or empty for the default tasks; if only single
            tasks have data, empty selects these.
        tasks_from: TOML file in place of both.

    Raises:
        UsageError: the file is combined with other options or cannot be read, or a task has data
            but is not selected.

    >>> select_tasks(["demo"], "", None).tasks, select_tasks(["pair=demo"], "", None).tasks
    (('knn', 'linear', 'pair', 'pair_interaction', 'rank'), ('pair',))
    """
    if tasks_from is not None:
        if data or tasks:
            raise UsageError("tasks-from: takes the place of --data and --tasks; give either")
        # A file can be moved together with its images.
        return _read_toml(tasks_from, tasks_from.resolve().parent)
    main, task_data = parse_sources(data)
    names = tuple(dict.fromkeys(name for name in tasks.split(",") if name))
    if tasks == "all":
        names = tuple(
            name
            for name, task in all_tasks().items()
            if name in task_data or not task.needs_own_data
        )
    elif not names:
        defaults = () if task_data and main is None else DEFAULT_TASKS
        names = tuple(dict.fromkeys((*defaults, *task_data)))
    for name in task_data:
        if name not in names:
            raise UsageError(f"data: given for {name}, which is not among --tasks")
    return _in_folder(main, task_data, names, Path.cwd())


def _in_folder(
    data: str | None, task_data: Mapping[str, str], tasks: Iterable[str], folder: Path
) -> TaskSelection:
    own = {name: absolute(source, folder) for name, source in task_data.items()}
    return TaskSelection(absolute(data, folder) if data else None, own, tuple(tasks))


def _read_toml(path: Path, folder: Path) -> TaskSelection:
    where = f"tasks-from: {path}"
    try:
        content: dict[str, Any] = tomllib.loads(path.read_text())
    except OSError as error:
        raise UsageError(f"{where} cannot be read: {error.strerror}") from error
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{where}: {error}") from error
    for key in content:
        if key not in TaskSelection._fields:
            hint = did_you_mean(key, TaskSelection._fields)
            raise UsageError(f"{where}: no setting {key!r}; {hint}")
    main, tasks = content.get("data"), content.get("tasks")
    task_data = content.get("task_data", {})
    if not (main is None or isinstance(main, str)):
        raise UsageError(f"{where}: data: got {main!r}, takes a folder or a name")
    if not isinstance(task_data, dict) or not all(isinstance(s, str) for s in task_data.values()):
        raise UsageError(f"{where}: task_data: got {task_data!r}, takes TASK = DATA lines")
    if not isinstance(tasks, list) or not tasks or not all(isinstance(t, str) for t in tasks):
        raise UsageError(f"{where}: tasks: got {tasks!r}, takes a list of names")
    for name in (*task_data, *tasks):
        if name not in all_tasks():
            raise UsageError(f"{where}: no task {name!r}; {did_you_mean(name, all_tasks())}")
    return _in_folder(main, task_data, dict.fromkeys((*tasks, *task_data)), folder)


def absolute(source: str, folder: Path) -> str:
    """Absolute path of a source that exists in ``folder``; any other source unchanged."""
    if source == "demo":
        return source
    path = folder / Path(source).expanduser()
    return str(path.resolve()) if path.exists() else source


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
        task.load in _UNLABELLED or (task.name in task_data and task.load in _INDEPENDENT)
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

    @property
    def skipped(self) -> tuple[str, ...]:
        """Paths of the unreadable files that were left out of all images so far."""
        splits = (*filter(None, (self.main,)), *self._loaded.values())
        return tuple(dict.fromkeys(path for each in splits for path in each.skipped))

    def of(self, task: Task) -> Splits:
        """Images of a task.

        Raises:
            DataError: there are none, or they cannot be used; the message names the task.
        """
        source = self._task_data.get(task.name)
        key = (task.load, source)
        same = self._loaded.get((_SAME_IMAGES.get(task.load), source))
        if same is not None and (task.load is load_unlabelled or len(same.train.classes) > 1):
            return same
        if key not in self._loaded:
            try:
                self._loaded[key] = task.load(source, self.main)
            except DataError as error:
                raise DataError(f"task {task.name}: {error}") from error
        return self._loaded[key]
