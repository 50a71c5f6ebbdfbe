"""What is asked of which images: from the command line, or from a file.

The file is TOML: ``data``, the images of all tasks; ``tasks``; and a table ``[task_data]`` with
the source of each task that has its own.
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
class Asked:
    """Tasks and their images.

    Attributes:
        data: the images of all tasks, or None.
        task_data: the source of each task that has its own.
        tasks: in order.
    """

    data: str | None
    task_data: dict[str, str]
    tasks: tuple[str, ...]


def ask(data: Sequence[str], tasks: str, tasks_from: Path | None) -> Asked:
    """Read ``--data``, ``--tasks`` and ``--tasks-from``; folders become absolute.

    Args:
        data: as `parse_sources` takes it.
        tasks: names with commas between, ``all``, or empty: the usual ones, or those that were
            given data where nothing was given for all.
        tasks_from: a file in place of both.

    Raises:
        UsageError: a file beside other things, or one that cannot be read.

    >>> ask(["demo"], "", None).tasks, ask(["pair=demo"], "", None).tasks
    (('knn', 'linear', 'pair'), ('pair',))
    """
    if tasks_from is not None:
        if data or tasks:
            raise UsageError("tasks-from: takes the place of --data and --tasks; give either")
        return _read(tasks_from)
    main, own = parse_sources(data)
    if tasks == "all":
        names = tuple(all_tasks())
    else:
        usual = () if own and main is None else DEFAULT_TASKS
        asked = [name for name in tasks.split(",") if name]
        names = tuple(dict.fromkeys(asked or [*usual, *own]))
    unasked = [name for name in own if name not in names]
    if unasked:
        raise UsageError(f"data: given for {unasked[0]}, which is not among --tasks")
    here = Path.cwd()
    return Asked(
        absolute(main, here) if main else None,
        {name: absolute(source, here) for name, source in own.items()},
        names,
    )


def _read(path: Path) -> Asked:
    try:
        told: dict[str, Any] = tomllib.loads(path.read_text())
    except OSError as error:
        raise UsageError(f"tasks-from: {path} cannot be read: {error.strerror}") from error
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"tasks-from: {path}: {error}") from error
    for key in told:
        if key not in _KEYS:
            raise UsageError(f"tasks-from: {path}: no setting {key!r}; {did_you_mean(key, _KEYS)}")
    main, own, tasks = told.get("data"), told.get("task_data", {}), told.get("tasks")
    if not (main is None or isinstance(main, str)):
        raise UsageError(f"tasks-from: {path}: data: got {main!r}, takes a folder or a name")
    if not isinstance(own, dict) or not all(isinstance(each, str) for each in own.values()):
        raise UsageError(f"tasks-from: {path}: task_data: got {own!r}, takes TASK = DATA lines")
    if not isinstance(tasks, list) or not tasks or not all(isinstance(t, str) for t in tasks):
        raise UsageError(f"tasks-from: {path}: tasks: got {tasks!r}, takes a list of names")
    for name in (*own, *tasks):
        if name not in all_tasks():
            raise UsageError(
                f"tasks-from: {path}: no task {name!r}; {did_you_mean(name, all_tasks())}"
            )
    here = path.resolve().parent  # a file beside its images can be moved with them
    return Asked(
        absolute(main, here) if main else None,
        {name: absolute(source, here) for name, source in own.items()},
        tuple(dict.fromkeys((*tasks, *own))),
    )


def absolute(source: str, here: Path) -> str:
    """A folder as an absolute path, from ``here``; any other source as it is."""
    if source == "demo":
        return source
    path = here / Path(source).expanduser()
    return str(path.resolve()) if path.exists() else source
