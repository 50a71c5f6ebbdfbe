"""Which images each task is asked about: from ``--data`` to splits, each source read once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sp_bench.data import DataError, Splits
from sp_bench.errors import UsageError
from sp_bench.tasks import Task, all_tasks
from sp_plugin.validation import did_you_mean


class Sources:
    """The images of all tasks, and those that some tasks were given as their own.

    Tasks that name the same source share its images, so that their features are extracted once.

    Args:
        main: the images of all tasks, or None.
        given: a source for each task that has its own.
    """

    def __init__(self, main: Splits | None, given: Mapping[str, str]) -> None:
        self.main = main
        self._given = given
        self._read: dict[tuple[Any, str | None], Splits] = {}

    def of(self, task: Task) -> Splits:
        """The images that a task is asked about.

        Raises:
            DataError: there are none, or they will not do; the line names the task.
        """
        source = self._given.get(task.name)
        key = (task.load, source)
        if key not in self._read:
            try:
                self._read[key] = task.load(source, self.main)
            except DataError as error:
                raise DataError(f"task {task.name}: {error}") from error
        return self._read[key]


def parse_sources(given: Sequence[str]) -> tuple[str | None, dict[str, str]]:
    """``--data`` as given: one source of all tasks, and ``TASK=SOURCE`` for single ones.

    Raises:
        UsageError: two sources for the same, or no such task; the line names the nearest.

    >>> parse_sources(["scenes", "pair=photographs"])
    ('scenes', {'pair': 'photographs'})
    >>> parse_sources(["piar=photographs"])
    Traceback (most recent call last):
    sp_bench.errors.UsageError: data: no task 'piar'; did you mean 'pair'?
    """
    main: str | None = None
    own: dict[str, str] = {}
    for item in given:
        name, sign, source = item.partition("=")
        if not sign or "/" in name:
            if main is not None:
                raise UsageError(f"data: got {main!r} and {item!r}, takes one, and TASK=DATA")
            main = item
            continue
        if name not in all_tasks():
            raise UsageError(f"data: no task {name!r}; {did_you_mean(name, all_tasks())}")
        if name in own or not source:
            raise UsageError(f"data: got {item!r}, takes TASK=DATA, once for each task")
        own[name] = source
    return main, own
