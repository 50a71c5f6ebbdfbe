"""``sp-bench show``: draw pairs of crops as SP samples them, or what SP's head says of them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from sp_bench.cli_options import RGBOption, SPOption, sp_settings
from sp_bench.errors import UsageError


def show(
    data: Annotated[
        str, typer.Option(help="demo, or a folder of images, with or without class folders.")
    ] = "",
    replay: Annotated[
        Path | None,
        typer.Option(help="Instead of data: file of a step that SP recorded (on_nonfinite)."),
    ] = None,
    run: Annotated[
        Path | None,
        typer.Option(
            help="Instead of data: folder of a finished comparison, or of its run with SP; what "
            "SP's head says before and after training."
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="PNG file to write.")] = Path("pairs.png"),
    side: Annotated[int, typer.Option(help="Side of the view in pixels.")] = 224,
    count: Annotated[int, typer.Option(help="Number of images.")] = 8,
    seed: Annotated[int, typer.Option(help="Seed of the choice of images and pairs.")] = 0,
    rgb: RGBOption = None,
    sp: SPOption = None,
) -> None:
    """Draw SP's crops and targets on your own images before any training, or a run's answers."""
    from sp_bench.preview import sample_preview, save_preview, show_demo_pairs, show_recorded_step

    options: dict[str, Any] = {
        "config": sp_settings(sp),
        "side": side,
        "count": count,
        "seed": seed,
    }
    if out.is_dir():
        raise UsageError(f"out: {out} is a folder; takes a PNG file, such as {out / 'pairs.png'}")
    if sum((bool(data), replay is not None, run is not None)) != 1:
        raise UsageError("show: takes one of --data, --replay and --run")
    if run is not None:
        from sp_bench.run import show_answers  # loads the frameworks of training

        show_answers(run, out)
    elif replay is not None:
        show_recorded_step(replay, out, rgb)
    elif data == "demo":
        show_demo_pairs(out, **options)
    else:
        from sp_bench.data import list_images
        from sp_bench.data.array_files import read_layout

        folder = Path(data).expanduser()
        paths, layout = list_images(folder), read_layout(folder)
        save_preview(sample_preview(paths, rgb=rgb, layout=layout, **options), out)
    Console().print(f"written: {out}", soft_wrap=True, highlight=False)
