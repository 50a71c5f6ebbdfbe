"""``sp-bench compare``: what SP changes, by pre-training or from what others trained."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from sp_bench.cli_options import (
    DataOption,
    PrefixOption,
    SPOption,
    TasksFromOption,
    TasksOption,
    TrustOption,
    asked_of,
    printer,
    sp_settings,
)
from sp_bench.errors import stoppable

if TYPE_CHECKING:
    from sp_bench.task_selection import TaskSelection


def compare(
    out: Annotated[Path, typer.Option(help="Folder of this comparison; the same goes on.")],
    method: Annotated[
        str, typer.Option(help="simclr, moco, byol, dino, mae, vicreg, barlowtwins.")
    ] = "simclr",
    backbone: Annotated[
        str, typer.Option(help="tiny_resnet, tiny_vit, resnet18 (torchvision) or a name of timm.")
    ] = "",
    data: DataOption = None,
    epochs: Annotated[int, typer.Option(help="Of pre-training.")] = 20,
    seeds: Annotated[
        list[int] | None, typer.Option(help="Each is run with and without SP: --seeds 0 1 2.")
    ] = None,
    side: Annotated[int, typer.Option(help="Of the views, in pixels.")] = 64,
    batch_size: Annotated[int, typer.Option(help="Images in a step.")] = 128,
    learning_rate: Annotated[float, typer.Option(help="For a batch of 256.")] = 2e-3,
    weight_decay: Annotated[float, typer.Option(help="Of AdamW.")] = 1e-4,
    limit: Annotated[int | None, typer.Option(help="Training images, at most.")] = None,
    validation: Annotated[
        bool,
        typer.Option("--validation", help="Evaluate on a fifth of the training ones, left out."),
    ] = False,
    workers: Annotated[
        int | None, typer.Option(help="Processes that load images; half the cores.")
    ] = None,
    precision: Annotated[
        str, typer.Option(help="As Lightning names it; auto: bfloat16 where it is fast.")
    ] = "auto",
    tasks: TasksOption = "",
    tasks_from: TasksFromOption = None,
    longer: Annotated[
        bool, typer.Option("--longer", help="A third arm: a baseline with SP's compute as epochs.")
    ] = False,
    sp: SPOption = None,
    given: Annotated[
        list[str] | None,
        typer.Option(
            "--from",
            metavar="ARM=CHECKPOINT",
            help="Compare what others trained: --from baseline=A sp=B; repeat for more pairs.",
        ),
    ] = None,
    prefix: PrefixOption = None,
    trust_checkpoint: TrustOption = False,
) -> None:
    """Pre-train with and without SP, seed by seed, and print what that changed."""
    if given:
        asked = asked_of(data, tasks, tasks_from)
        _checkpoints(given, asked, out, backbone, side, limit, prefix, trust_checkpoint)
        return
    from sp_bench.compare import REPORT
    from sp_bench.compare import compare as run
    from sp_bench.config import Settings, fast_precision, half_the_cores, usual_backbone
    from sp_bench.progress import Progress
    from sp_bench.report.table import print_table

    asked = asked_of(data, tasks, tasks_from)
    settings = Settings(
        method=method,
        backbone=backbone or usual_backbone(method),
        data=asked.data or "demo",
        epochs=epochs,
        side=side,
        batch_size=batch_size,
        learning_rate=learning_rate,
        weight_decay=weight_decay,
        limit=limit,
        validation=validation,
        workers=half_the_cores() if workers is None else workers,
        precision=fast_precision() if precision == "auto" else precision,
        tasks=asked.tasks,
        task_data=asked.task_data,
        sp=sp_settings(sp).asdict(),
        longer=longer,
    )
    console = Console()
    wanted = list(dict.fromkeys(seeds or [0, 1, 2]))
    with stoppable():
        results = run(settings, wanted, out, Progress(console))
    print_table(results, console)
    console.print(f"report: {out / REPORT}", soft_wrap=True, highlight=False)


def _checkpoints(
    given: list[str],
    asked: TaskSelection,
    out: Path,
    backbone: str,
    side: int,
    limit: int | None,
    prefix: str | None,
    trust: bool,
) -> None:
    from sp_bench.evaluation import EvalSettings
    from sp_bench.from_checkpoints import REPORT, FromSettings, compare_checkpoints, parse_from
    from sp_bench.report.table import print_table

    settings = EvalSettings(
        backbone=backbone or "tiny_resnet",
        prefix=prefix,
        trust=trust,
        data=asked.data,
        task_data=asked.task_data,
        tasks=asked.tasks,
        side=side,
        limit=limit,
    )
    console = Console()
    with stoppable():
        results = compare_checkpoints(
            FromSettings(settings, parse_from(given)), out, printer(console)
        )
    print_table(results, console)
    console.print(f"report: {out / REPORT}", soft_wrap=True, highlight=False)
