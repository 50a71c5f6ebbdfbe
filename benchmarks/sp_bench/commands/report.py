"""``sp-bench report``: finished runs side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from sp_bench.cli_options import line_printer


def report(
    runs: Annotated[list[Path], typer.Argument(help="Folders of compare or eval.")],
    out: Annotated[Path, typer.Option(help="Folder for report.html and report.md.")] = Path(),
) -> None:
    """Show finished runs side by side, as an HTML page and a Markdown table."""
    from sp_bench.report.multi_run_report import write_runs

    print_line = line_printer(Console())
    for path in write_runs(runs, out):
        print_line(f"written: {path}")
