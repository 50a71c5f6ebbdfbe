"""``sp-bench eval``: evaluate one backbone, or several side by side."""

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
    PoolOption,
    PrefixOption,
    StdOption,
    TasksFromOption,
    TasksOption,
    TrustOption,
    as_tuple,
    line_printer,
    pair_models,
    task_selection,
)
from sp_bench.errors import stoppable


def evaluate(
    out: Annotated[Path, typer.Option(help="Folder of the results; the command resumes them.")],
    backbone: Annotated[
        list[str],
        typer.Option(
            help="As for compare, or timm:NAME, torchvision:NAME, hf:NAME or hf:FOLDER; repeat."
        ),
    ],
    pretrained: Annotated[
        bool,
        typer.Option("--pretrained", help="Take the weights that the model is published with."),
    ] = False,
    checkpoint: Annotated[
        list[Path] | None,
        typer.Option(
            help="File, or a run's folder; default: random weights. With several: one for each "
            "--backbone, or all of one."
        ),
    ] = None,
    compare: Annotated[
        bool,
        typer.Option("--compare", help="Rank the models on one page, next to random weights."),
    ] = False,
    prefix: PrefixOption = None,
    allow_partial: PartialOption = False,
    trust_checkpoint: TrustOption = False,
    data: DataOption = None,
    tasks: TasksOption = "",
    side: Annotated[
        int | None,
        typer.Option(
            help="Image size in pixels; default that of the run or of the published model, else "
            "224, or 64 for tiny ones."
        ),
    ] = None,
    pool: PoolOption = None,
    layer: Annotated[
        str | None, typer.Option(help="Submodule whose output is taken; default: the last.")
    ] = None,
    limit: Annotated[int | None, typer.Option(help="Largest number of training images.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the random backbone to compare with.")] = 0,
    bf16: Annotated[
        bool,
        typer.Option("--bf16", help="Compute features in bfloat16: faster, metrics move a little."),
    ] = False,
    tasks_from: TasksFromOption = None,
    channels: ChannelsOption = None,
    mean: MeanOption = None,
    std: StdOption = None,
) -> None:
    """Evaluate backbones on tasks."""
    from sp_bench.config import EvalSettings
    from sp_bench.evaluation import RESULT, run_evaluation, run_evaluations
    from sp_bench.report.comparison_table import print_metrics
    from sp_bench.report.model_ranking import rank_models, ranking_table
    from sp_bench.report.multi_run_report import write_runs
    from sp_bench.report.run_table import read_run_folder

    selection = task_selection(data, tasks, tasks_from)
    models = [
        EvalSettings(
            backbone=name,
            pretrained=pretrained,
            checkpoint=weights,
            prefix=prefix,
            allow_partial=allow_partial,
            trust=trust_checkpoint,
            side=side,
            pool=pool,
            layer=layer,
            limit=limit,
            seed=seed,
            bf16=bf16,
            channels=channels,
            mean=as_tuple(mean),
            std=as_tuple(std),
            **selection._asdict(),
        )
        for name, weights in pair_models(backbone, checkpoint or [], pretrained)
    ]
    console = Console()
    print_line = line_printer(console)
    if len(models) == 1 and not compare:
        with stoppable():
            result = run_evaluation(models[0], out, print_line)
        print_metrics(result["metrics"], console)
        print_line(f"written: {out / RESULT}")
        return
    with stoppable():
        folders = run_evaluations(models, out, print_line, control=compare)
    ranked = rank_models([read_run_folder(folder) for folder in folders])
    ranking_table(ranked).print_to(console)
    written = write_runs([out / model.name for model in ranked], out) if compare else folders
    for path in written:
        print_line(f"written: {path}")
