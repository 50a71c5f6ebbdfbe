"""``sp-bench collect`` and ``results``: from runs to JSON, from JSON to pages."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from sp_bench.cli_options import printer


def collect(
    runs: Annotated[Path, typer.Argument(help="The out folder of a suite.")],
    into: Annotated[Path, typer.Option(help="Folder for HOST.json.")],
    suite: Annotated[str, typer.Option(help="Its name; that of the out folder.")] = "",
) -> None:
    """Gather a suite's finished runs, a JSON file for each host."""
    from sp_bench.sweeps.collect import collect as gather

    tell = printer(Console())
    for path in gather(runs, into, suite or runs.resolve().name):
        tell(f"written: {path}")


def results(
    folder: Annotated[Path, typer.Argument(help="With SUITE/HOST.json.")] = Path(
        "benchmarks/results"
    ),
    docs: Annotated[Path, typer.Option(help="The page; images go beside it.")] = Path(
        "docs/results.md"
    ),
    readme: Annotated[
        Path | None,
        typer.Option(help="A README with marks for the table; left alone if not given."),
    ] = None,
    pairs: Annotated[
        Path | None,
        typer.Option(help="A run's examples.pt, for an image of pairs with its head's answers."),
    ] = None,
) -> None:
    """Make the page of results from the JSON of suites."""
    from sp_bench.report.html_report import write_whole
    from sp_bench.report.prediction_figure import PairExamples, draw_examples
    from sp_bench.results_page import forests
    from sp_bench.results_page.page import images, page
    from sp_bench.results_page.page import readme as with_table
    from sp_bench.results_page.reading import read

    found = read(folder)
    docs.parent.mkdir(parents=True, exist_ok=True)
    tell = printer(Console())
    for path in images(found, docs.parent):
        tell(f"written: {path}")
    if pairs is not None:
        forests.save(draw_examples(PairExamples.load(pairs)), docs.parent / "pairs.png")
        tell(f"written: {docs.parent / 'pairs.png'}")
    write_whole(docs, page(found, folder, (docs.parent / "pairs.png").exists()))
    tell(f"written: {docs}")
    if readme is not None:
        write_whole(readme, with_table(readme.read_text(), found))
        tell(f"written: {readme}")
