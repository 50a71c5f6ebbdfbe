"""The answers to the questions before turning SP on: a short table, and a sentence below it."""

from __future__ import annotations

import math
from collections.abc import Sequence

from sp_bench.report.number_format import format_difference, format_interval, metric_name, verdict
from sp_bench.report.table import LEFT, Cell, Column, Table
from sp_bench.results import BASELINE, LONGER, SP
from sp_bench.results_page.differences import (
    Difference,
    cost_ratios,
    differences,
    mean_row,
    of_metric,
)
from sp_bench.results_page.reading import headlines
from sp_bench.sweeps.collect import Evidence

_UNSUPERVISED = "unsupervised"

_METRICS = (
    "jigsaw_2x2_perfect",
    "jigsaw_3x3_piece",
    "pair_interaction_gain",
    "knn",
    "linear",
    "robustness_v2",
)
_PAIRS = {  # title of a column: arms to subtract from and to subtract
    "SP less baseline": (SP, BASELINE),
    "SP less more epochs": (SP, LONGER),
    "shuffled targets less baseline": (_UNSUPERVISED, BASELINE),
}


def answers_table(methods: Sequence[Evidence]) -> Table:
    """The main metrics as means over methods, against the baseline and against as much compute.

    Args:
        methods: evidence of one suite with the arms ``baseline``, ``sp`` and ``longer``; the column
            of ``unsupervised`` is there if it was run.

    Returns:
        A row for each metric, and one for the cost in operations: seconds of runs that ran next to
        each other cannot be compared. The note says how many differences are losses. A column of
        other methods than the first one's names them.
    """
    metrics = headlines(methods)
    columns, notes, names = [], [], []
    for title, (arm, baseline) in _PAIRS.items():
        if found := differences(methods, metrics, baseline, arm):
            names.append(", ".join(dict.fromkeys(each.method for each in found)))
            heading = title if names[-1] == names[0] else f"{title} ({names[-1]})"
            columns.append((heading, found, cost_ratios(methods, baseline, arm)))
            notes.append(f"{title} ({names[-1]}): {_losses(found)}.")
    by_key = {metric.key: metric for metric in metrics}
    lines: list[list[Cell | str]] = [
        [metric_name(by_key[key]), *(_mean(of_metric(found, key)) for _, found, _ in columns)]
        for key in _METRICS
        if key in by_key
    ]
    lines.append(["forward FLOPs of the training", *(_ends(costs) for *_, costs in columns)])
    note = (
        "Means over methods, with the interval for a further method; after it, for how many "
        "methods the difference survives the correction for all differences between the arms. "
        f"{' '.join(notes)}"
    )
    headings = [Column(heading) for heading, *_ in columns]
    return Table([Column("metric", LEFT), *headings], lines, note=note)


def _mean(found: Sequence[Difference]) -> str:
    """The mean difference of a metric, and for how many methods it survives the correction.

    With the interval from three methods up: two have one of no use.
    """
    if not found:
        return ""
    row = mean_row(found)
    counts = [(sum(each.verdict == word for each in found), word) for word in ("better", "worse")]
    parts = [f"{count} of {len(found)} {word}" for count, word in counts if count]
    mean = format_difference(row.metric, row.difference)
    interval = f" {format_interval(row)}" if len(found) > 2 else ""
    return mean + interval + (f" ({', '.join(parts)})" if parts else "")


def _losses(found: Sequence[Difference]) -> str:
    """How many intervals lie on the worse side of 0, before and after the correction."""
    tested = [each for each in found if math.isfinite(each.row.low)]
    if not tested:
        return "one seed has no interval"
    worse = sum(verdict(each.row) == "worse" for each in tested)
    after = [each for each in tested if each.verdict == "worse"]
    names = "; ".join(f"{each.row.metric.label.split(' (')[0]}, {each.method}" for each in after)
    surviving = f"{len(after)} ({names})" if after else "none"
    return f"{worse} of {len(tested)} are worse, after the correction {surviving}"


def _ends(costs: Sequence[tuple[str, float]]) -> str:
    """The smallest and the largest ratio, and their methods."""
    ratios = sorted(costs, key=lambda item: item[1])
    ends = dict.fromkeys((ratios[0], ratios[-1])) if ratios else ()
    return " to ".join(f"x{ratio:.2f} ({method})" for method, ratio in ends)
