"""``sp-bench speed``: what SP costs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from sp_bench.cli_options import printer
from sp_bench.errors import UsageError, stoppable


def speed(
    out: Annotated[
        Path | None, typer.Option(help="Folder of this measurement; the same goes on.")
    ] = None,
    only: Annotated[
        str, typer.Option(help="With commas between: steps,crops,data,peers,k; all if not given.")
    ] = "",
    repeats: Annotated[int, typer.Option(help="Turns of each arm.")] = 6,
    quick: Annotated[
        bool, typer.Option("--quick", help="Tiny nets and images, to see that all runs.")
    ] = False,
    device: Annotated[str, typer.Option(help="cpu, cuda, or auto.")] = "auto",
    data: Annotated[
        Path | None, typer.Option(help="Photographs for the data path; the demo's if not given.")
    ] = None,
    given: Annotated[
        list[Path] | None,
        typer.Option("--from", help="A speed.json to make --docs of; repeat for more devices."),
    ] = None,
    docs: Annotated[Path | None, typer.Option(help="The page to write, with --from.")] = None,
) -> None:
    """Time SP beside what it must cost and beside its peers."""
    from sp_bench.speed.page import markdown, print_result
    from sp_bench.speed.run import PAGE, read, run_speed
    from sp_bench.speed.settings import PARTS, SpeedSettings

    console = Console()
    if given or docs:
        if not given or not docs:
            raise UsageError("docs: takes --from SPEED.JSON beside it, and --from takes --docs")
        docs.write_text(markdown([read(path) for path in given]))
        console.print(f"written: {docs}", soft_wrap=True, highlight=False)
        return
    if out is None:
        raise UsageError("out: takes a folder, such as --out runs/speed")
    parts = tuple(part.strip() for part in only.split(",") if part.strip()) or PARTS
    settings = SpeedSettings(parts, repeats, quick, device, data)
    with stoppable():
        result = run_speed(settings, out, printer(console))
    print_result(result, console)
    console.print(f"written: {out / PAGE}", soft_wrap=True, highlight=False)
