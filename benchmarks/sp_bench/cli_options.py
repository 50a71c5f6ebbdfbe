"""Options that several commands share, and their parsing."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from sp_bench.errors import UsageError

if TYPE_CHECKING:
    from sp_bench.task_data import TaskSelection
    from sp_plugin import SPConfig

_NUMBER_LISTS = ("--seeds", "--rgb", "--mean", "--std")
_NUMBER = re.compile(r"-*(\d+\.?\d*|\.\d+)(e[-+]?\d+)?")

DataOption = Annotated[
    list[str] | None,
    typer.Option(
        help="demo, a folder of images in classes, or a data set of torchvision such as cifar10; "
        "TASK=DATA sets the images of one task; repeat."
    ),
]
TasksOption = Annotated[
    str,
    typer.Option(
        help="Names separated by commas, or all; default knn,linear,pair,pair_interaction,rank."
    ),
]
PrefixOption = Annotated[
    str | None, typer.Option(help="Prefix of its keys in a checkpoint, such as teacher.backbone.")
]
PartialOption = Annotated[
    bool,
    typer.Option(
        "--allow-partial", help="Load what matches, if backbone and checkpoint lack parts."
    ),
]
TrustOption = Annotated[
    bool, typer.Option("--trust-checkpoint", help="Allow a checkpoint to run its author's code.")
]
PoolOption = Annotated[
    str | None,
    typer.Option(help="Pooling of token outputs: mean or cls; default that of the run, else mean."),
]
TasksFromOption = Annotated[
    Path | None, typer.Option(help="TOML file of tasks and their data, instead of both options.")
]
ChannelsOption = Annotated[
    int | None,
    typer.Option(help="1 or 3: convert grey and RGB images; default 1 if all images are grey."),
]
MeanOption = Annotated[
    list[float] | None,
    typer.Option(
        help="Mean of each channel: --mean 0.1 0.2 ...; default ImageNet's for RGB, else measured "
        "on the training images."
    ),
]
StdOption = Annotated[
    list[float] | None, typer.Option(help="Standard deviation of each channel, with --mean.")
]
RGBOption = Annotated[
    list[int] | None,
    typer.Option(help="Channels to draw as red, green and blue, from 0: --rgb 3 2 1."),
]
SPOption = Annotated[
    list[str] | None,
    typer.Option("--sp", metavar="KEY=VALUE", help="A setting of SP, such as weight=0.5; repeat."),
]


def sp_settings(options: list[str] | None) -> SPConfig:
    """Options ``--sp KEY=VALUE`` as settings of SP; a value is JSON or a word.

    >>> sp_settings(["weight=0.5"]).weight
    0.5
    """
    # Slow to import, and not needed for --help.
    from sp_plugin import SPConfig

    settings: dict[str, Any] = {}
    for option in options or []:
        key, sign, value = option.partition("=")
        if not sign:
            raise UsageError(f"--sp: got {option!r}, takes KEY=VALUE, such as weight=0.5")
        try:
            settings[key] = json.loads(value)
        except json.JSONDecodeError:
            settings[key] = value
    return SPConfig.from_dict(settings)


def task_selection(data: list[str] | None, tasks: str, tasks_from: Path | None) -> TaskSelection:
    """Options ``--data``, ``--tasks`` and ``--tasks-from`` as tasks and their images."""
    # Slow to import, and not needed by every command.
    from sp_bench.task_data import select_tasks

    return select_tasks(data or [], tasks, tasks_from)


def pair_models(
    names: Sequence[str], checkpoints: Sequence[Path], pretrained: bool
) -> list[tuple[str, str]]:
    """Backbones with their checkpoint files (empty: none); errors come before any evaluation.

    Args:
        names: values of ``--backbone``; each gets its source if ``pretrained``.
        checkpoints: none, one for each name, or several for one name.
        pretrained: whether the published weights are taken.

    Raises:
        UsageError: a name is unknown, a checkpoint is missing, or their numbers do not fit.

    >>> pair_models(["resnet50", "hf:facebook/dinov2-small"], [], pretrained=True)
    [('torchvision:resnet50', ''), ('hf:facebook/dinov2-small', '')]
    """
    # Slow to import, and not needed for --help.
    from sp_bench.backbones import split_name, with_source
    from sp_bench.checkpoints import find_checkpoint

    for name in names:
        split_name(name)
    named = [with_source(name) if pretrained else name for name in names]
    files = [str(find_checkpoint(path.expanduser()).resolve()) for path in checkpoints]
    files = files or [""] * len(named)
    named = named * len(files) if len(named) == 1 else named
    if len(named) != len(files):
        raise UsageError(
            f"checkpoint: got {len(files)} for {len(named)} of --backbone, takes one for each, or "
            "several for one"
        )
    return list(zip(named, files, strict=True))


def line_printer(console: Console) -> Callable[[str], None]:
    """A function that prints a line without wrapping or highlighting."""
    return lambda line: console.print(line, soft_wrap=True, highlight=False)


def as_tuple(values: list[Any] | None) -> tuple[Any, ...] | None:
    """Values of an option that can be repeated; None where it was not given."""
    return tuple(values) if values else None


def expand_list_options(arguments: list[str]) -> list[str]:
    """Expand ``--seeds 0 1 2`` to ``--seeds 0 --seeds 1 --seeds 2``, as click requires.

    ``--from``, ``--rgb``, ``--mean`` and ``--std`` likewise.
    """
    expanded: list[str] = []
    for argument in arguments:
        option = expanded[-2] if len(expanded) > 1 else ""
        is_number = option in _NUMBER_LISTS and _NUMBER.fullmatch(argument)
        is_pair = option == "--from" and "=" in argument and not argument.startswith("-")
        if is_number or is_pair:
            expanded.append(option)
        expanded.append(argument)
    return expanded
