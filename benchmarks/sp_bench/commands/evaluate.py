"""``sp-bench eval``: evaluate one backbone."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from sp_bench.cli_options import (
    ChannelsOption,
    DataOption,
    MeanOption,
    PartialOption,
    PrefixOption,
    StdOption,
    TasksFromOption,
    TasksOption,
    TrustOption,
    as_tuple,
    line_printer,
    task_selection,
)
from sp_bench.errors import stoppable


def evaluate(
    out: Annotated[Path, typer.Option(help="Folder of this evaluation; the command resumes it.")],
    backbone: Annotated[
        str, typer.Option(help="As for compare; timm:NAME if torchvision has the name too.")
    ],
    checkpoint: Annotated[
        Path | None, typer.Option(help="File, or a run's folder; default: random weights.")
    ] = None,
    prefix: PrefixOption = None,
    allow_partial: PartialOption = False,
    trust_checkpoint: TrustOption = False,
    data: DataOption = None,
    tasks: TasksOption = "",
    side: Annotated[
        int | None,
        typer.Option(
            help="Image size in pixels; default that of the run, else 224, or 64 for tiny ones."
        ),
    ] = None,
    pool: Annotated[str, typer.Option(help="Pooling of token outputs: mean or cls.")] = "mean",
    layer: Annotated[
        str | None, typer.Option(help="Submodule whose output is taken; default: the last.")
    ] = None,
    limit: Annotated[int | None, typer.Option(help="Largest number of training images.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the random backbone to compare with.")] = 0,
    tasks_from: TasksFromOption = None,
    channels: ChannelsOption = None,
    mean: MeanOption = None,
    std: StdOption = None,
) -> None:
    """Evaluate one backbone on tasks."""
    from sp_bench.checkpoints import find_checkpoint
    from sp_bench.evaluation import RESULT, EvalSettings, run_evaluation
    from sp_bench.report.comparison_table import print_metrics

    selection = task_selection(data, tasks, tasks_from)
    settings = EvalSettings(
        backbone=backbone,
        checkpoint=str(find_checkpoint(checkpoint.expanduser()).resolve()) if checkpoint else "",
        prefix=prefix,
        allow_partial=allow_partial,
        trust=trust_checkpoint,
        data=selection.data,
        task_data=selection.task_data,
        tasks=selection.tasks,
        side=side,
        pool=pool,
        layer=layer,
        limit=limit,
        seed=seed,
        channels=channels,
        mean=as_tuple(mean),
        std=as_tuple(std),
    )
    console = Console()
    with stoppable():
        result = run_evaluation(settings, out, line_printer(console))
    print_metrics(result["metrics"], console)
    console.print(f"written: {out / RESULT}", soft_wrap=True, highlight=False)
