"""``sp-bench collect`` and ``results``: from runs to JSON, from JSON to the results page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from sp_bench.cli_options import line_printer


def collect(
    runs: Annotated[Path, typer.Argument(help="Output folder of a suite.")],
    into: Annotated[Path, typer.Option(help="Folder for METHOD.json.")],
    suite: Annotated[str, typer.Option(help="Name of the suite; default that of its folder.")] = "",
) -> None:
    """Collect the finished runs of a suite in one JSON file per method."""
    from sp_bench.sweeps.collect import collect as run

    print_line = line_printer(Console())
    for path in run(runs, into, suite or runs.resolve().name):
        print_line(f"written: {path}")


def results(
    folder: Annotated[Path, typer.Argument(help="Folder with SUITE/METHOD.json.")] = Path(
        "benchmarks/results"
    ),
    docs: Annotated[Path, typer.Option(help="Page to write; its figures go next to it.")] = Path(
        "docs/results.md"
    ),
    readme: Annotated[
        Path | None,
        typer.Option(help="README with markers around its table; default unchanged."),
    ] = None,
    pairs: Annotated[
        Path | None,
        typer.Option(help="examples.pt of a run, for a figure of pairs with predictions."),
    ] = None,
) -> None:
    """Write the page of results from the JSON files of suites."""
    from sp_bench.report.mpl_style import save_figure
    from sp_bench.report.prediction_figure import PairExamples, draw_examples
    from sp_bench.results import write_text
    from sp_bench.results_page.page import insert_table, page, write_figures
    from sp_bench.results_page.reading import read_suites

    suites = read_suites(folder)
    docs.parent.mkdir(parents=True, exist_ok=True)
    written = write_figures(suites, docs.parent)
    pairs_figure = docs.parent / "pairs.png"
    if pairs is not None:
        save_figure(draw_examples(PairExamples.load(pairs)), pairs_figure)
        written.append(pairs_figure)
    write_text(docs, page(suites, folder, has_pairs=pairs_figure.exists()))
    written.append(docs)
    if readme is not None:
        write_text(readme, insert_table(readme.read_text(), suites))
        written.append(readme)
    print_line = line_printer(Console())
    for path in written:
        print_line(f"written: {path}")
