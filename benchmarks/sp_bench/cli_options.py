"""Options that several commands share, and how they are read."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from sp_bench.errors import UsageError
from sp_plugin import SPConfig

if TYPE_CHECKING:
    from sp_bench.task_selection import TaskSelection

DataOption = Annotated[
    list[str] | None,
    typer.Option(
        help="demo, a folder of images in classes, or cifar10 and its like; TASK=DATA gives a "
        "task images of its own; repeat."
    ),
]
TasksOption = Annotated[
    str, typer.Option(help="With commas between; knn,linear,pair if not given; or all.")
]
PrefixOption = Annotated[
    str | None, typer.Option(help="Of its names in a checkpoint, such as momentum_backbone.")
]
TrustOption = Annotated[
    bool, typer.Option("--trust-checkpoint", help="Let a checkpoint run code of its maker.")
]
TasksFromOption = Annotated[
    Path | None, typer.Option(help="A TOML file of tasks and their data, in place of both.")
]
SPOption = Annotated[
    list[str] | None,
    typer.Option("--sp", metavar="KEY=VALUE", help="A setting of SP, such as weight=0.5; repeat."),
]


def sp_settings(given: list[str] | None) -> SPConfig:
    """``--sp KEY=VALUE`` as settings of SP, values as JSON or as words.

    >>> sp_settings(["weight=0.5"]).weight
    0.5
    """
    settings: dict[str, Any] = {}
    for item in given or []:
        key, sign, value = item.partition("=")
        if not sign:
            raise UsageError(f"--sp: got {item!r}, takes KEY=VALUE, such as weight=0.5")
        try:
            settings[key] = json.loads(value)
        except json.JSONDecodeError:
            settings[key] = value
    return SPConfig.from_dict(settings)


def asked_of(data: list[str] | None, tasks: str, tasks_from: Path | None) -> TaskSelection:
    """``--data``, ``--tasks`` and ``--tasks-from`` as tasks and their images."""
    from sp_bench.task_selection import select_tasks  # not for a command that asks nothing

    return select_tasks(data or [], tasks, tasks_from)


def printer(console: Console) -> Callable[[str], None]:
    """What prints a line as it is."""
    return lambda line: console.print(line, soft_wrap=True, highlight=False)


def expand_list_options(arguments: list[str]) -> list[str]:
    """``--seeds 0 1 2`` as ``--seeds 0 --seeds 1 --seeds 2``, which is what click reads.

    ``--from`` likewise.
    """
    found: list[str] = []
    for argument in arguments:
        before = found[-2] if len(found) > 1 else ""
        if argument.lstrip("-").isdigit() and before == "--seeds":
            found.append("--seeds")
        if not argument.startswith("-") and "=" in argument and before == "--from":
            found.append("--from")
        found.append(argument)
    return found
