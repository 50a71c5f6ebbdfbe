"""``sp-bench show``: what SP will ask, drawn."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from sp_bench.cli_options import SPOption, sp_settings


def show(
    data: Annotated[Path, typer.Option(help="Folder of images, in classes or not.")],
    out: Annotated[Path, typer.Option(help="The PNG to write.")] = Path("pairs.png"),
    side: Annotated[int, typer.Option(help="Of the host's view, in pixels.")] = 224,
    count: Annotated[int, typer.Option(help="Images to draw.")] = 8,
    seed: Annotated[int, typer.Option(help="Which images and which pairs.")] = 0,
    sp: SPOption = None,
) -> None:
    """Draw what SP will ask, on your own images, before any training."""
    from sp_bench.data import list_images
    from sp_bench.preview import show_pairs

    config = sp_settings(sp)
    show_pairs(list_images(data), out, config=config, side=side, count=count, seed=seed)
    Console().print(f"written: {out}", soft_wrap=True, highlight=False)
