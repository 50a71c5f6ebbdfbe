"""``sp-bench compare``: the effect of SP, by pre-training or from existing checkpoints."""

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
    RGBOption,
    SPOption,
    StdOption,
    TasksFromOption,
    TasksOption,
    TrustOption,
    as_tuple,
    line_printer,
    sp_settings,
    task_selection,
)
from sp_bench.errors import stoppable


def compare(
    out: Annotated[Path, typer.Option(help="Output folder; the same folder continues.")],
    method: Annotated[
        str, typer.Option(help="simclr, moco, byol, dino, mae, vicreg, barlowtwins.")
    ] = "simclr",
    backbone: Annotated[
        str, typer.Option(help="tiny_resnet, tiny_vit, resnet18 (torchvision) or a name of timm.")
    ] = "",
    data: DataOption = None,
    epochs: Annotated[int, typer.Option(help="Epochs of pre-training.")] = 20,
    seeds: Annotated[
        list[int] | None, typer.Option(help="Seeds, each with and without SP: --seeds 0 1 2.")
    ] = None,
    side: Annotated[
        int | None,
        typer.Option(help="Side of the views in pixels; default 64, with --from as for eval."),
    ] = None,
    batch_size: Annotated[int, typer.Option(help="Images per step.")] = 128,
    learning_rate: Annotated[float, typer.Option(help="Learning rate for a batch of 256.")] = 2e-3,
    weight_decay: Annotated[float, typer.Option(help="Weight decay of AdamW.")] = 1e-4,
    limit: Annotated[int | None, typer.Option(help="Maximum number of training images.")] = None,
    validation: Annotated[
        bool,
        typer.Option("--validation", help="Evaluate on a held-out fifth of the training images."),
    ] = False,
    workers: Annotated[
        int | None, typer.Option(help="Processes that load images; default half the cores.")
    ] = None,
    precision: Annotated[
        str, typer.Option(help="Precision as in Lightning; auto: bfloat16 where it is fast.")
    ] = "auto",
    tasks: TasksOption = "",
    tasks_from: TasksFromOption = None,
    longer: Annotated[
        bool, typer.Option("--longer", help="Add a baseline with SP's compute as more epochs.")
    ] = False,
    sp: SPOption = None,
    checkpoints: Annotated[
        list[str] | None,
        typer.Option(
            "--from",
            metavar="ARM=CHECKPOINT",
            help="Compare existing checkpoints: --from baseline=A sp=B; repeat for more pairs.",
        ),
    ] = None,
    channels: ChannelsOption = None,
    mean: MeanOption = None,
    std: StdOption = None,
    rgb: RGBOption = None,
    pool: PoolOption = None,
    prefix: PrefixOption = None,
    allow_partial: PartialOption = False,
    trust_checkpoint: TrustOption = False,
) -> None:
    """Pre-train with and without SP, seed by seed, and print the difference."""
    from sp_bench.compare import (
        REPORT,
        CheckpointSettings,
        compare_checkpoints,
        parse_checkpoints,
    )
    from sp_bench.compare import compare as run
    from sp_bench.config import (
        EvalSettings,
        Settings,
        check_seed,
        default_backbone,
        default_workers,
        fast_precision,
    )
    from sp_bench.progress import Progress
    from sp_bench.report.comparison_table import print_comparison
    from sp_bench.report.summary import summary_sentence

    selection = task_selection(data, tasks, tasks_from)
    console = Console()
    if checkpoints:
        evaluation = EvalSettings(
            backbone=backbone or "tiny_resnet",
            prefix=prefix,
            allow_partial=allow_partial,
            trust=trust_checkpoint,
            data=selection.data,
            task_data=selection.task_data,
            tasks=selection.tasks,
            side=side,
            pool=pool,
            limit=limit,
            channels=channels,
            mean=as_tuple(mean),
            std=as_tuple(std),
        )
        pairs = CheckpointSettings(evaluation, parse_checkpoints(checkpoints))
        with stoppable():
            results = compare_checkpoints(pairs, out, line_printer(console))
    else:
        settings = Settings(
            method=method,
            backbone=backbone or default_backbone(method),
            data=selection.data or "demo",
            epochs=epochs,
            side=Settings.side if side is None else side,
            batch_size=batch_size,
            learning_rate=learning_rate,
            weight_decay=weight_decay,
            limit=limit,
            validation=validation,
            workers=default_workers() if workers is None else workers,
            precision=fast_precision() if precision == "auto" else precision,
            tasks=selection.tasks,
            task_data=selection.task_data,
            sp=sp_settings(sp).asdict(),
            longer=longer,
            channels=channels,
            mean=as_tuple(mean),
            std=as_tuple(std),
            rgb=as_tuple(rgb),
        )
        unique_seeds = [check_seed(seed) for seed in dict.fromkeys(seeds or [0, 1, 2])]
        with stoppable():
            results = run(settings, unique_seeds, out, Progress(console))
    print_line = line_printer(console)
    print_line(summary_sentence(results))
    print_comparison(results, console)
    print_line(f"report: {out / REPORT}")
