"""``sp-bench eval``: what one backbone is worth."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from sp_bench.cli_options import (
    DataOption,
    PrefixOption,
    TasksFromOption,
    TasksOption,
    TrustOption,
    line_printer,
    task_selection,
)
from sp_bench.errors import stoppable


def evaluate(
    out: Annotated[Path, typer.Option(help="Folder of this evaluation; the same goes on.")],
    backbone: Annotated[
        str, typer.Option(help="As for compare; timm:NAME is timm's where both have the name.")
    ],
    checkpoint: Annotated[
        Path | None,
        typer.Option(help="Of any host, or a run's folder; random weights if not given."),
    ] = None,
    prefix: PrefixOption = None,
    trust_checkpoint: TrustOption = False,
    data: DataOption = None,
    tasks: TasksOption = "",
    side: Annotated[int | None, typer.Option(help="Of the images shown, in pixels.")] = None,
    pool: Annotated[str, typer.Option(help="Of token outputs: mean or cls.")] = "mean",
    layer: Annotated[str | None, typer.Option(help="Whose output is taken.")] = None,
    limit: Annotated[int | None, typer.Option(help="Training images, at most.")] = None,
    seed: Annotated[int, typer.Option(help="Of the random backbone beside it.")] = 0,
    tasks_from: TasksFromOption = None,
) -> None:
    """Ask one backbone what it is worth."""
    from sp_bench.checkpoints import find_checkpoint
    from sp_bench.evaluation import RESULT, EvalSettings, run_evaluation
    from sp_bench.report.comparison_table import print_metrics

    asked = task_selection(data, tasks, tasks_from)
    settings = EvalSettings(
        backbone=backbone,
        checkpoint=str(find_checkpoint(checkpoint.expanduser()).resolve()) if checkpoint else "",
        prefix=prefix,
        trust=trust_checkpoint,
        data=asked.data,
        task_data=asked.task_data,
        tasks=asked.tasks,
        side=side,
        pool=pool,
        layer=layer,
        limit=limit,
        seed=seed,
    )
    console = Console()
    with stoppable():
        result = run_evaluation(settings, out, line_printer(console))
    print_metrics(result["metrics"], console)
    console.print(f"written: {out / RESULT}", soft_wrap=True, highlight=False)
