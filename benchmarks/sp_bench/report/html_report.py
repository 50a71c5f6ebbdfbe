"""The report of a comparison: one self-contained HTML file that loads nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure

from sp_bench.report import metadata
from sp_bench.report.comparison_table import comparison_table, control_rows, headline_rows
from sp_bench.report.forest_plot import forest_charts
from sp_bench.report.learning_curves import curve_charts
from sp_bench.report.mpl_style import png
from sp_bench.report.number_format import metric_name
from sp_bench.report.prediction_figure import PairExamples
from sp_bench.report.summary import summary_sentence
from sp_bench.report.task_cards import TaskExamples, task_cards
from sp_bench.results import Results, Row, write_text


def write_report(
    results: Results, pairs: PairExamples | None, path: Path, examples: TaskExamples
) -> None:
    """Write the report of a comparison, completely or not at all.

    Args:
        results: the comparison.
        pairs: pairs with the head's predictions; None for a report without them.
        path: HTML file.
        examples: what the tasks stored to be drawn; may be empty.
    """
    write_text(path, render(results, pairs, examples))


def render(
    results: Results, pairs: PairExamples | None = None, examples: TaskExamples | None = None
) -> str:
    """The report as HTML; the same for the same input."""
    rows = headline_rows(results.rows)
    others = control_rows(results.rows)
    settings = {key: value for key, value in results.settings.items() if key != "sp"}
    data, skipped = metadata.data_table(results.data)
    return render_template(
        "report.html.jinja",
        title=metadata.title(results),
        summary=summary_sentence(results),
        seeds=max((row.seeds for row in rows), default=0),
        headline=comparison_table(rows, with_chance=True),
        longer=comparison_table(headline_rows(results.longer), with_chance=True),
        longer_epochs=metadata.longer_epochs(results.runs),
        others=comparison_table(others, with_chance=True),
        failed=failed_probes(others),
        forests=inline_charts(forest_charts(results, rows)),
        curves=inline_charts(curve_charts(results.runs)),
        cards=list(task_cards(results, pairs, examples or {})),
        per_seed=metadata.seed_table(results),
        over_images=metadata.image_bootstrap_table(results),
        sp_settings=metadata.facts_table(results.settings.get("sp")),
        settings=metadata.facts_table(settings),
        cost=metadata.cost_table(results.runs),
        cost_note=metadata.cost_note(results),
        data=data,
        skipped=skipped,
        versions=metadata.facts_table(results.versions),
        machine=metadata.facts_table(results.machine),
    )


def failed_probes(rows: Iterable[Row]) -> list[str]:
    """Names of the metrics whose probe predicts far worse than the mean of the targets.

    An MLP that is fitted on few pairs can have an R2 far below -1.
    """
    return [
        metric_name(row.metric)
        for row in rows
        if not row.metric.percent and row.metric.higher_is_better and min(row.baseline, row.sp) < -1
    ]


def render_template(name: str, **values: Any) -> str:
    """Fill in a template of this package; text is escaped, and every name must be given."""
    environment = Environment(
        loader=PackageLoader("sp_bench.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(name).render(**values)


def inline_charts(charts: Mapping[str, Figure], prefix: str = "") -> list[tuple[str, Markup]]:
    """Charts as ``<img>`` elements that hold their PNG, by title.

    Args:
        charts: by title.
        prefix: of the descriptions of the images; default empty.
    """
    image = Markup('<img src="{}" alt="{}" width="{:.0f}">')
    return [
        (title, image.format(png(chart), f"{prefix}{title}", 96 * chart.get_figwidth()))
        for title, chart in charts.items()
    ]
