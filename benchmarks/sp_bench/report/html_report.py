"""The report: one HTML file that holds all it shows and asks nothing of a network."""

from __future__ import annotations

from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure

from sp_bench.report.forest_plot import forest_charts
from sp_bench.report.learning_curves import curve_charts
from sp_bench.report.metadata import data_facts, facts, per_seed, times, title
from sp_bench.report.mpl_style import png, svg
from sp_bench.report.pair_controls import is_control, pair_controls
from sp_bench.report.prediction_figure import PairExamples, draw_examples
from sp_bench.report.table import headline, lines
from sp_bench.results import Results


def write_report(results: Results, examples: PairExamples | None, path: Path) -> None:
    """Write the report of a comparison, whole or not at all.

    Args:
        results: What was measured.
        examples: Pairs with the head's predictions; None leaves the images out.
        path: The HTML file.
    """
    write_whole(path, render(results, examples))


def write_whole(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    part = path.with_suffix(".part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)


def environment() -> Environment:
    """Where templates come from, and how they are filled."""
    return Environment(
        loader=PackageLoader("sp_bench.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def render(results: Results, examples: PairExamples | None = None) -> str:
    """The report as HTML; the same for the same input."""
    shown = headline(results)
    others = [row for row in results.rows if not row.figure.headline and not is_control(row)]
    forests = forest_charts(results, shown)
    curves = curve_charts(results.runs)
    data, skipped = data_facts(results.data)
    asked = results.settings.get("sp")
    rest = {key: value for key, value in results.settings.items() if key != "sp"}
    return (
        environment()
        .get_template("report.html.jinja")
        .render(
            title=title(results),
            seeds=max((row.seeds for row in shown), default=0),
            headline=lines(shown),
            controls=pair_controls(results),
            others=lines(others),
            forests=[(name, _inline(chart, name)) for name, chart in forests.items()],
            curves=[(name, _inline(chart, name)) for name, chart in curves.items()],
            examples=png(draw_examples(examples)) if examples is not None else None,
            per_seed=per_seed(results),
            asked=facts(asked),
            settings=facts(rest),
            times=times(results.runs),
            data=data,
            skipped=skipped,
            versions=facts(results.versions),
            machine=facts(results.machine),
        )
    )


def _inline(chart: Figure, name: str) -> Markup:
    return Markup(svg(chart, name))
