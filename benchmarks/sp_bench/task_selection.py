"""Selection of tasks and their images, from the command line or from a TOML file.

The file has ``data``, the source of all tasks; ``tasks``; and a table ``[task_data]`` with the
source of each task that has its own.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sp_bench.errors import UsageError
from sp_bench.task_data import parse_sources
from sp_bench.tasks import DEFAULT_TASKS, all_tasks
from sp_plugin.validation import did_you_mean

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_KEYS = ("data", "tasks", "task_data")


@dataclass(frozen=True)
class TaskSelection:
    """Tasks and the sources of their images.

    Attributes:
        data: source of all tasks.
        task_data: source of each task that has its own.
        tasks: names of the tasks in order.
    """

    data: str | None
    task_data: dict[str, str]
    tasks: tuple[str, ...]

    def relative_to(self, folder: Path) -> TaskSelection:
        """The same with absolute paths for folders in ``folder``."""
        return TaskSelection(
            absolute(self.data, folder) if self.data else None,
            {name: absolute(source, folder) for name, source in self.task_data.items()},
            self.tasks,
        )


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
    (('knn', 'linear', 'pair'), ('pair',))
    """
    if tasks_from is not None:
        if data or tasks:
            raise UsageError("tasks-from: takes the place of --data and --tasks; give either")
        # A file can be moved together with its images.
        return _read_toml(tasks_from).relative_to(tasks_from.resolve().parent)
    main, task_data = parse_sources(data)
    names = tuple(dict.fromkeys(name for name in tasks.split(",") if name))
    if tasks == "all":
        names = tuple(all_tasks())
    elif not names:
        defaults = () if task_data and main is None else DEFAULT_TASKS
        names = tuple(dict.fromkeys((*defaults, *task_data)))
    for name in task_data:
        if name not in names:
            raise UsageError(f"data: given for {name}, which is not among --tasks")
    return TaskSelection(main, task_data, names).relative_to(Path.cwd())


def _read_toml(path: Path) -> TaskSelection:
    where = f"tasks-from: {path}"
    try:
        content: dict[str, Any] = tomllib.loads(path.read_text())
    except OSError as error:
        raise UsageError(f"{where} cannot be read: {error.strerror}") from error
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{where}: {error}") from error
    for key in content:
        if key not in _KEYS:
            raise UsageError(f"{where}: no setting {key!r}; {did_you_mean(key, _KEYS)}")
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
    return TaskSelection(main, task_data, tuple(dict.fromkeys((*tasks, *task_data))))


def absolute(source: str, folder: Path) -> str:
    """Absolute path of a source that exists in ``folder``; any other source unchanged."""
    if source == "demo":
        return source
    path = folder / Path(source).expanduser()
    return str(path.resolve()) if path.exists() else source
