"""``sp-bench speed``: the cost of SP."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from sp_bench.cli_options import line_printer
from sp_bench.errors import UsageError, stoppable


def speed(
    out: Annotated[
        Path | None, typer.Option(help="Output folder; the same folder continues.")
    ] = None,
    only: Annotated[
        str, typer.Option(help="Parts separated by commas: steps,crops,data,peers,k; default all.")
    ] = "",
    repeats: Annotated[int, typer.Option(help="Rounds per arm.")] = 6,
    quick: Annotated[
        bool, typer.Option("--quick", help="Tiny networks and images, as a smoke test.")
    ] = False,
    device: Annotated[str, typer.Option(help="cpu, cuda, or auto.")] = "auto",
    data: Annotated[
        Path | None, typer.Option(help="Photographs for the part data; default the demo's.")
    ] = None,
    measured: Annotated[
        list[Path] | None,
        typer.Option("--from", help="A speed.json for --docs; repeat for more devices."),
    ] = None,
    docs: Annotated[Path | None, typer.Option(help="Page to write, with --from.")] = None,
) -> None:
    """Measure the cost of SP, its lower bound, and the cost of its peers."""
    from sp_bench.results import write_text
    from sp_bench.speed.page import markdown, print_result
    from sp_bench.speed.run import PAGE, read, run_speed
    from sp_bench.speed.settings import PARTS, SpeedSettings

    console = Console()
    print_line = line_printer(console)
    if measured or docs:
        if not measured or not docs:
            raise UsageError("docs: takes --from SPEED.JSON, and --from takes --docs")
        write_text(docs, markdown([read(path) for path in measured]))
        print_line(f"written: {docs}")
        return
    if out is None:
        raise UsageError("out: takes a folder, such as --out runs/speed")
    parts = tuple(part.strip() for part in only.split(",") if part.strip()) or PARTS
    settings = SpeedSettings(parts, repeats, quick, device, data)
    with stoppable():
        result = run_speed(settings, out, print_line)
    print_result(result, console)
    print_line(f"written: {out / PAGE}")
