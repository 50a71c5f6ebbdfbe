"""The command line: ``sp-bench compare``, ``eval``, ``report`` and ``show``."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from sp_bench.errors import Stopped, UsageError
from sp_bench.options import (
    DataOption,
    PrefixOption,
    SPOption,
    SuiteOption,
    TasksOption,
    TrustOption,
    asked_of,
    printer,
    sp_settings,
    spread,
)
from sp_plugin import ConfigError

if TYPE_CHECKING:
    from sp_bench.suite import Asked

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Measures what Spatial Prediction (SP) changes.",
)


@app.command()
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
    batch_size: Annotated[int, typer.Option(help="Pictures in a step.")] = 128,
    learning_rate: Annotated[float, typer.Option(help="For a batch of 256.")] = 2e-3,
    weight_decay: Annotated[float, typer.Option(help="Of AdamW.")] = 1e-4,
    limit: Annotated[int | None, typer.Option(help="Training pictures, at most.")] = None,
    workers: Annotated[
        int | None, typer.Option(help="Processes that load pictures; half the cores.")
    ] = None,
    precision: Annotated[
        str, typer.Option(help="As Lightning names it; auto: bfloat16 where it is fast.")
    ] = "auto",
    tasks: TasksOption = "",
    suite: SuiteOption = None,
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
        asked = asked_of(data, tasks, suite)
        _compare_checkpoints(given, asked, out, backbone, side, limit, prefix, trust_checkpoint)
        return
    from sp_bench.compare import REPORT
    from sp_bench.compare import compare as run
    from sp_bench.progress import Progress
    from sp_bench.report.table import print_table
    from sp_bench.settings import Settings, fast_precision, half_the_cores

    asked = asked_of(data, tasks, suite)
    settings = Settings(
        method=method,
        backbone=backbone or ("tiny_vit" if method == "mae" else "tiny_resnet"),
        data=asked.data or "demo",
        epochs=epochs,
        side=side,
        batch_size=batch_size,
        learning_rate=learning_rate,
        weight_decay=weight_decay,
        limit=limit,
        workers=half_the_cores() if workers is None else workers,
        precision=fast_precision() if precision == "auto" else precision,
        tasks=asked.tasks,
        task_data=asked.task_data,
        sp=sp_settings(sp).asdict(),
        longer=longer,
    )
    console = Console()
    wanted = list(dict.fromkeys(seeds or [0, 1, 2]))
    with _stoppable():
        results = run(settings, wanted, out, Progress(console))
    print_table(results, console)
    console.print(f"report: {out / REPORT}", soft_wrap=True, highlight=False)


@app.command("eval")
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
    side: Annotated[int | None, typer.Option(help="Of the pictures shown, in pixels.")] = None,
    pool: Annotated[str, typer.Option(help="Of token outputs: mean or cls.")] = "mean",
    layer: Annotated[str | None, typer.Option(help="Whose output is taken.")] = None,
    limit: Annotated[int | None, typer.Option(help="Training pictures, at most.")] = None,
    seed: Annotated[int, typer.Option(help="Of the random backbone beside it.")] = 0,
    suite: SuiteOption = None,
) -> None:
    """Ask one backbone what it is worth."""
    from sp_bench.checkpoints import find_checkpoint
    from sp_bench.evaluation import RESULT, EvalSettings, run_evaluation
    from sp_bench.report.table import print_figures

    asked = asked_of(data, tasks, suite)
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
    with _stoppable():
        result = run_evaluation(settings, out, printer(console))
    print_figures(result["figures"], console)
    console.print(f"written: {out / RESULT}", soft_wrap=True, highlight=False)


@app.command()
def report(
    runs: Annotated[list[Path], typer.Argument(help="Folders of compare or eval.")],
    out: Annotated[Path, typer.Option(help="Folder for report.html and report.md.")] = Path(),
) -> None:
    """Put runs side by side, in one page and one Markdown table."""
    from sp_bench.report.runs import write_runs

    for path in write_runs(runs, out):
        Console().print(f"written: {path}", soft_wrap=True, highlight=False)


@app.command()
def show(
    data: Annotated[Path, typer.Option(help="Folder of pictures, in classes or not.")],
    out: Annotated[Path, typer.Option(help="The PNG to write.")] = Path("pairs.png"),
    side: Annotated[int, typer.Option(help="Of the host's view, in pixels.")] = 224,
    count: Annotated[int, typer.Option(help="Pictures to draw.")] = 8,
    seed: Annotated[int, typer.Option(help="Which pictures and which pairs.")] = 0,
    sp: SPOption = None,
) -> None:
    """Draw what SP will ask, on your own pictures, before any training."""
    from sp_bench.data import list_pictures
    from sp_bench.show import show_pairs

    config = sp_settings(sp)
    show_pairs(list_pictures(data), out, config=config, side=side, count=count, seed=seed)
    Console().print(f"written: {out}", soft_wrap=True, highlight=False)


def _compare_checkpoints(
    given: list[str],
    asked: Asked,
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
    with _stoppable():
        results = compare_checkpoints(
            FromSettings(settings, parse_from(given)), out, printer(console)
        )
    print_table(results, console)
    console.print(f"report: {out / REPORT}", soft_wrap=True, highlight=False)


@contextlib.contextmanager
def _stoppable() -> Iterator[None]:
    """Work that Ctrl-C interrupts and the same command takes up again."""
    try:
        yield
    except KeyboardInterrupt:
        raise Stopped("stopped; the same command goes on from here") from None


def main(arguments: list[str] | None = None) -> None:
    """Run the command line. What the user has to mend is one line and exit code 2."""
    from sp_bench.data import DataError

    given = spread(sys.argv[1:] if arguments is None else arguments)
    try:
        app(given)
    except (UsageError, ConfigError, DataError) as error:
        print(f"sp-bench: {error}", file=sys.stderr)
        sys.exit(2)
    except Stopped as stop:
        print(f"sp-bench: {stop}", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
