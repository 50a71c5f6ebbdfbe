"""The report of several runs: one page and one Markdown file."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from sp_bench.report.forest_plot import forest_charts
from sp_bench.report.html_report import environment, write_whole
from sp_bench.report.learning_curves import curve_charts
from sp_bench.report.mpl_style import svg
from sp_bench.report.run_table import (
    Column,
    Found,
    columns,
    compute_rows,
    difference_rows,
    figure_rows,
    find_run,
)
from sp_bench.report.table import headline, known_figures, lines, markdown_row
from sp_bench.results import LONGER, Results


def write_runs(paths: Sequence[Path], out: Path) -> list[Path]:
    """Write ``report.html`` and ``report.md`` of some runs, each whole or not at all.

    Args:
        paths: folders of ``compare`` or ``eval``.
        out: folder to write into; made where it is missing.

    Returns:
        The files.

    Raises:
        UsageError: a folder is none of a finished run.
    """
    found = [find_run(path) for path in paths]
    out.mkdir(parents=True, exist_ok=True)
    page, table = out / "report.html", out / "report.md"
    write_whole(page, render_runs(found))
    write_whole(table, markdown_runs(found))
    return [page, table]


def render_runs(found: Sequence[Found]) -> str:
    """The page as HTML; the same for the same input."""
    shown = columns(found)
    known = known_figures()
    rows = figure_rows(shown, known)
    heads = sum(known[key].headline for key in _keys(shown))
    return (
        environment()
        .get_template("runs.html.jinja")
        .render(
            runs=[each.name for each in found],
            groups=_groups(shown),
            names=[column.name for column in shown],
            headline=rows[:heads],
            others=rows[heads:],
            compute=compute_rows(shown),
            comparisons=[
                _comparison(each.name, each.results, place)
                for place, each in enumerate(found)
                if each.results is not None
            ],
        )
    )


def markdown_runs(found: Sequence[Found]) -> str:
    """Every figure of every run in one Markdown table, and the differences of comparisons below."""
    shown = columns(found)
    heads = [f"{column.run}: {column.name}" for column in shown]
    out = _table(["figure", *heads], ([name, *cells] for name, cells in _all_rows(shown)))
    for each in found:
        if each.results is None:
            continue
        for title, rows in _differences(each.results):
            out += f"\n{each.name}, {title}:\n\n"
            out += _table(["figure", "difference", "95% interval"], difference_rows(rows))
    return out


def _all_rows(shown: Sequence[Column]) -> list[tuple[str, list[str]]]:
    return [*figure_rows(shown, known_figures()), *compute_rows(shown)]


def _differences(results: Results) -> list[tuple[str, Any]]:
    told: list[tuple[str, Any]] = [("SP less baseline", results.rows)]
    if results.longer:
        told.append(("SP less the baseline that trained longer", results.longer))
    return told


def _table(heads: Sequence[str], rows: Iterable[Iterable[str]]) -> str:
    lines_ = [markdown_row(heads), "|---|" + "--:|" * (len(heads) - 1) + "\n"]
    return "".join([*lines_, *(markdown_row(row) for row in rows)])


def _keys(shown: Sequence[Column]) -> list[str]:
    return list(dict.fromkeys(key for column in shown for key in column.figures))


def _groups(shown: Sequence[Column]) -> list[tuple[str, int]]:
    """The folders, each with how many columns stand below it."""
    groups: list[tuple[str, int]] = []
    for column in shown:
        if groups and groups[-1][0] == column.run:
            groups[-1] = (column.run, groups[-1][1] + 1)
        else:
            groups.append((column.run, 1))
    return groups


def _comparison(name: str, results: Results, place: int) -> dict[str, Any]:
    shown = headline(results)
    forests, curves = forest_charts(results, shown), curve_charts(results.runs)
    longer = [row for row in results.longer if row.figure.headline]
    return {
        "name": name,
        "rows": lines(shown),
        "longer": lines(longer),
        "epochs": _epochs(results),
        # A name for each chart of the page keeps their ids apart.
        "forests": [
            (each, Markup(svg(chart, f"{place} {each}"))) for each, chart in forests.items()
        ],
        "curves": [(each, Markup(svg(chart, f"{place} {each}"))) for each, chart in curves.items()],
    }


def _epochs(results: Results) -> str:
    """How many epochs the longer baseline had, in words; empty where that is not known."""
    made = {len(run.curve) for run in results.runs if run.arm == LONGER and run.curve}
    return " or ".join(str(count) for count in sorted(made))
