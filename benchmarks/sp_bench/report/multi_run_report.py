"""The report of several runs: one HTML page and one Markdown file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sp_bench.errors import UsageError
from sp_bench.report.comparison_table import comparison_table, headline_rows
from sp_bench.report.forest_plot import forest_charts
from sp_bench.report.html_report import inline_charts, render_template
from sp_bench.report.learning_curves import curve_charts
from sp_bench.report.metadata import longer_epochs
from sp_bench.report.model_ranking import rank_models, ranking_table
from sp_bench.report.number_format import format_difference, format_interval, metric_name
from sp_bench.report.run_table import (
    RunFolder,
    measured_metrics,
    mixture_note,
    read_run_folder,
    run_table,
    summarize,
)
from sp_bench.report.table import LEFT, Column, Table
from sp_bench.results import Results, Row, write_text


def write_runs(paths: Sequence[Path], out: Path) -> list[Path]:
    """Write ``report.html`` and ``report.md`` of several runs, each completely or not at all.

    Args:
        paths: folders of ``compare`` or ``eval``.
        out: output folder; created if missing.

    Returns:
        The two files.

    Raises:
        UsageError: a folder does not hold a finished run, or ``out`` is a file.
    """
    if out.exists() and not out.is_dir():
        raise UsageError(f"out: {out} is a file; takes a folder for report.html and report.md")
    folders = [read_run_folder(path) for path in paths]
    out.mkdir(parents=True, exist_ok=True)
    page, table = out / "report.html", out / "report.md"
    write_text(page, render_runs(folders))
    write_text(table, markdown_runs(folders))
    return [page, table]


def render_runs(folders: Sequence[RunFolder]) -> str:
    """The report as HTML; the same for the same input."""
    summaries = summarize(folders)
    metrics = measured_metrics(summaries)
    comparisons = [
        _comparison(folder.name, folder.results, chart_prefix=f"{i} ")
        for i, folder in enumerate(folders)
        if folder.results is not None
    ]
    return render_template(
        "runs.html.jinja",
        runs=[folder.name for folder in folders],
        mixture=mixture_note(summaries),
        ranking=_ranking(folders),
        headline=run_table(summaries, [metric for metric in metrics if metric.headline]),
        others=run_table(summaries, [metric for metric in metrics if not metric.headline]),
        compute=run_table(summaries, [], compute=True),
        comparisons=comparisons,
    )


def markdown_runs(folders: Sequence[RunFolder]) -> str:
    """The metrics of all runs in one Markdown table, then the differences of each comparison."""
    summaries = summarize(folders)
    parts = []
    if (ranking := _ranking(folders)).rows:
        parts.append(f"{ranking.to_markdown()}\n{ranking.note}\n\n")
    parts.append(run_table(summaries, measured_metrics(summaries), compute=True).to_markdown())
    if note := mixture_note(summaries):
        parts.append(f"\n**{note}**\n")
    for folder in folders:
        if folder.results is None:
            continue
        tables = {"SP less baseline": folder.results.rows}
        if folder.results.longer:
            tables["SP less the baseline that trained longer"] = folder.results.longer
        for title, rows in tables.items():
            parts.append(f"\n{folder.name}, {title}:\n\n{_difference_table(rows).to_markdown()}")
    return "".join(parts)


def _ranking(folders: Sequence[RunFolder]) -> Table:
    """Ranking of the evaluations; without rows where there are none to rank."""
    models = rank_models(folders)
    return ranking_table(models if len(models) > 1 else [])


def _difference_table(rows: Sequence[Row]) -> Table:
    return Table(
        [Column("metric", LEFT), Column("difference"), Column("95% interval")],
        [
            (
                metric_name(row.metric),
                format_difference(row.metric, row.difference),
                format_interval(row),
            )
            for row in headline_rows(rows)
        ],
    )


def _comparison(name: str, results: Results, chart_prefix: str) -> dict[str, Any]:
    """Content of a comparison's section; the prefix keeps the ids of its charts unique."""
    rows, longer = headline_rows(results.rows), headline_rows(results.longer)
    return {
        "name": name,
        "table": comparison_table(rows, with_chance=True),
        "longer": comparison_table(longer, with_chance=True),
        "epochs": longer_epochs(results.runs),
        "forests": inline_charts(forest_charts(results, rows), chart_prefix),
        "curves": inline_charts(curve_charts(results.runs), chart_prefix),
    }
