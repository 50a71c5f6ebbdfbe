"""``sp-bench report``: runs side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console


def report(
    runs: Annotated[list[Path], typer.Argument(help="Folders of compare or eval.")],
    out: Annotated[Path, typer.Option(help="Folder for report.html and report.md.")] = Path(),
) -> None:
    """Put runs side by side, in one page and one Markdown table."""
    from sp_bench.report.multi_run_report import write_runs

    for path in write_runs(runs, out):
        Console().print(f"written: {path}", soft_wrap=True, highlight=False)
