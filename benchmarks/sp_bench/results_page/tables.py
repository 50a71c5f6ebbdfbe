"""Tables of the results page: methods side by side, one method, trials."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from sp_bench.report.comparison_table import CORRECTED, comparison_table
from sp_bench.report.number_format import (
    format_difference,
    format_interval,
    format_value,
    metric_name,
    verdict,
)
from sp_bench.report.table import LEFT, Cell, Column, Table
from sp_bench.results import BASELINE, SP, MetricSpec, Row, Run
from sp_bench.results_page.reading import count_seeds
from sp_bench.stats import cost_ratio, mean_over_methods, rows, survives_correction
from sp_bench.sweeps.collect import Evidence
from sp_plugin import SPConfig

MEAN = "mean over methods"
SURVIVES = "\N{CHECK MARK}"
_COST = "cost: forward FLOPs of pre-training, as a ratio"


def arm_names(methods: Sequence[Evidence]) -> list[str]:
    """Names of all arms, in the order of their first occurrence."""
    return list(dict.fromkeys(arm for evidence in methods for arm in evidence.arms))


def method_name(evidence: Evidence) -> str:
    """Name of the method and of its backbone."""
    return f"{evidence.settings['method']}, {evidence.settings['backbone']}"


def side_by_side(
    methods: Sequence[Evidence], metrics: Sequence[MetricSpec], baseline: str, arm: str
) -> Table:
    """Difference and interval per metric and method, then the number of seeds and the cost.

    A check mark: the difference survives the correction for the number of tests, whose family is
    all cells of methods. With two methods or more, the last column is their mean; its cells are a
    family of their own.

    Args:
        methods: columns; a method without a common seed of both arms is left out.
        metrics: rows.
        baseline: name of the arm to subtract.
        arm: name of the arm to subtract from.
    """
    shown = [evidence for evidence in methods if count_seeds(evidence, baseline, arm)]
    if not shown:
        return Table([], [])
    by_method = [rows(evidence.runs, metrics, baseline, arm) for evidence in shown]
    columns = _marked_cells(by_method)
    seeds = [str(count_seeds(evidence, baseline, arm)) for evidence in shown]
    costs = [_cost(evidence.runs, baseline, arm) for evidence in shown]
    names = [method_name(evidence) for evidence in shown]
    if len(shown) > 1:
        means = [mean_over_methods(of_metric) for of_metric in zip(*by_method, strict=True)]
        columns += _marked_cells([means])
        seeds, costs, names = [*seeds, ""], [*costs, ""], [*names, MEAN]
    lines: list[list[Cell | str]] = [
        [metric_name(metric), *cells]
        for metric, cells in zip(metrics, zip(*columns, strict=True), strict=True)
    ]
    lines.append(["seeds", *seeds])
    if any(costs):
        lines.append([_COST, *costs])
    return Table([Column("task", LEFT), *map(Column, names)], lines)


def _cost(runs: Sequence[Run], baseline: str, arm: str) -> str:
    ratio = cost_ratio(runs, baseline, arm)
    return "" if math.isnan(ratio) else f"{ratio:.2f}"


def _marked_cells(groups: Sequence[Sequence[Row]]) -> list[list[Cell]]:
    """A cell per row: its difference and interval, with a check mark if it survives.

    Args:
        groups: rows of the columns, or of the lines, of a table: together one family.
    """
    marks = iter(survives_correction([row.p_value for group in groups for row in group]))
    return [[_cell(row, next(marks)) for row in group] for group in groups]


def _cell(row: Row, survives: bool) -> Cell:
    if not row.seeds:
        return Cell("")
    interval = "" if row.seeds == 1 else format_interval(row)
    remark = f"{interval} {SURVIVES}" if survives else interval
    return Cell(format_difference(row.metric, row.difference), bool(verdict(row)), remark)


def one_method(evidence: Evidence, metrics: Sequence[MetricSpec]) -> Table:
    """Means of both arms, the difference and its interval, for one method.

    Without the corrected test, whose family is all methods together, as in `side_by_side`.
    """
    table = comparison_table(row for row in rows(evidence.runs, metrics) if row.seeds)
    kept = [i for i, column in enumerate(table.columns) if column.name != CORRECTED]
    lines = [[row[i] for i in kept] for row in table.rows]
    return Table([table.columns[i] for i in kept], lines)


def trials(evidence: Evidence, metrics: Sequence[MetricSpec], baseline: str = BASELINE) -> Table:
    """One row per trial: its settings, the difference of each metric, its seeds, and its cost.

    Args:
        evidence: trials of one method.
        metrics: columns.
        baseline: name of the arm to subtract, whose means over its seeds are the first row; a
            difference is over those that the trial has too.
    """
    numbers = [*map(metric_name, metrics), "seeds", "cost"]
    columns = [Column("trial", LEFT), Column("settings", LEFT), *map(Column, numbers)]
    lines: list[list[Cell | str]] = []
    means = rows(evidence.runs, metrics, baseline, baseline)
    if any(row.seeds for row in means):
        values = (format_value(row.metric, row.sp) for row in means)
        lines.append([baseline, "", *values, str(count_seeds(evidence, baseline, baseline)), ""])
    arms = {
        arm: settings for arm, settings in evidence.arms.items() if arm not in (BASELINE, baseline)
    }
    cells = _marked_cells([rows(evidence.runs, metrics, baseline, arm) for arm in arms])
    for (arm, settings), of_arm in zip(arms.items(), cells, strict=True):
        cost = _cost(evidence.runs, baseline, arm)
        seeds = str(count_seeds(evidence, baseline, arm))
        lines.append([arm, describe_arm(settings, evidence.epochs), *of_arm, seeds, cost])
    return Table(columns, lines)


def predictions(evidence: Evidence) -> str:
    """The prediction for each trial that was written before it ran, as a Markdown list."""
    return "".join(
        f"- **{arm}**: {' '.join(settings['prediction'].split())}\n"
        for arm, settings in evidence.arms.items()
        if settings["prediction"]
    )


def describe_arm(arm: Mapping[str, Any], epochs: int) -> str:
    """Pretext task if it is not SP, settings of SP, and epochs if they differ from the baseline's.

    Args:
        arm: settings of the arm, as in `Evidence`.
        epochs: epochs of the baseline.

    >>> describe_arm({"sp": SPConfig().asdict(), "pretext": "augself", "epochs": 10}, epochs=10)
    "augself instead of SP, weight 0.5 of the host's gradient"
    >>> describe_arm({"sp": {}, "pretext": "sp", "epochs": 15}, epochs=10)
    '15 epochs'
    """
    parts = []
    if arm["sp"]:
        if arm["pretext"] not in ("", SP):
            parts.append(f"{arm['pretext']} instead of SP")
        parts.append(describe_settings(arm["sp"]))
    if arm["epochs"] != epochs:
        parts.append(f"{arm['epochs']} epochs")
    return ", ".join(parts)


def describe_settings(sp: Mapping[str, Any]) -> str:
    """Weight of SP, and its other settings where they differ from the defaults.

    >>> sp = {**SPConfig(weight=3, relative_weight=False).asdict(), "hidden_dim": 64}
    >>> describe_settings(sp)
    'weight 3, hidden_dim=64'
    """
    config = SPConfig.from_dict(sp)
    defaults = SPConfig(config.weight, config.relative_weight).asdict()
    parts = [config.describe_weight()]
    for key in sp:
        value = getattr(config, key)
        if value != defaults[key]:
            text = str(_as_lists(value)).replace(" ", "")
            parts.append(f"{key}={text}")
    return ", ".join(parts)


def _as_lists(value: Any) -> Any:
    return [_as_lists(item) for item in value] if isinstance(value, tuple) else value
