"""``sp-bench show``: draw pairs of crops as SP samples them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from sp_bench.cli_options import SPOption, sp_settings


def show(
    data: Annotated[Path, typer.Option(help="Folder of images, with or without class folders.")],
    out: Annotated[Path, typer.Option(help="PNG file to write.")] = Path("pairs.png"),
    side: Annotated[int, typer.Option(help="Side of the view in pixels.")] = 224,
    count: Annotated[int, typer.Option(help="Number of images.")] = 8,
    seed: Annotated[int, typer.Option(help="Seed of the choice of images and pairs.")] = 0,
    sp: SPOption = None,
) -> None:
    """Draw SP's crops and targets on your own images, before any training."""
    from sp_bench.data import list_images
    from sp_bench.preview import show_pairs

    config = sp_settings(sp)
    show_pairs(list_images(data), out, config=config, side=side, count=count, seed=seed)
    Console().print(f"written: {out}", soft_wrap=True, highlight=False)
