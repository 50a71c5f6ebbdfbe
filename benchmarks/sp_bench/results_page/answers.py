"""Answers to the questions before turning SP on, from the runs of a suite, in a row each."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from sp_bench.report.number_format import format_difference
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

_WHERE = {
    "jigsaw_3x3_piece": "patches of the 3x3 jigsaw put right",
    "jigsaw_2x2_perfect": "2x2 jigsaws wholly right",
    "pair_interaction_gain": "R2 of the pair interaction",
}
_WHAT = {"knn": "kNN", "linear": "linear probe", "robustness_v2": "robustness"}


def answers_table(methods: Sequence[Evidence]) -> Table:
    """One row per question: is *where* learnt, is anything lost, at which cost, and by what.

    Args:
        methods: evidence of one suite with the arms ``baseline``, ``sp`` and ``longer``; the row of
            ``unsupervised`` is there if it was run.
    """
    metrics = headlines(methods)
    gain = differences(methods, metrics, BASELINE, SP)
    over_longer = differences(methods, metrics, LONGER, SP)
    views_alone = differences(methods, metrics, BASELINE, _UNSUPERVISED)
    lines = [
        ("Does it learn *where*?", _gains(gain, _WHERE)),
        ("Does it lose anything?", f"{_gains(gain, _WHAT)}. {_losses(gain)}"),
        (
            "The same compute as more epochs instead?",
            f"SP less `longer`: {_gains(over_longer, _WHERE | _WHAT)}. {_losses(over_longer)}",
        ),
        ("What does it cost?", _costs(methods)),
    ]
    if views_alone:
        question = "Is it the extra crops alone?"
        text = f"With shuffled targets: {_gains(views_alone, _WHERE | _WHAT)}"
        lines.append((question, text))
    columns = [Column("question", LEFT), Column(_scope(gain), LEFT)]
    rows: list[list[Cell | str]] = [[question, answer] for question, answer in lines]
    return Table(columns, rows)


def _scope(found: Sequence[Difference]) -> str:
    names = list(dict.fromkeys(difference.method for difference in found))
    if len(names) == 1:
        return names[0]
    of_methods = "in brackets: for how many methods significantly"
    return f"mean over {', '.join(names)}; {of_methods}"


def _gains(found: Sequence[Difference], names: Mapping[str, str]) -> str:
    """The mean differences of some metrics, and for how many methods they are significant."""
    parts = []
    for key, name in names.items():
        if of_key := of_metric(found, key):
            row = mean_row(of_key)
            mean = format_difference(row.metric, row.difference)
            parts.append(f"{name} {mean}{_significant(of_key)}")
    return "; ".join(parts)


def _significant(of_metric: Sequence[Difference]) -> str:
    """In brackets for how many methods it is significant, in either direction; empty for none."""
    counts = [
        (sum(each.verdict == word for each in of_metric), word) for word in ("better", "worse")
    ]
    parts = [f"{count} of {len(of_metric)} {word}" for count, word in counts if count]
    return f" ({', '.join(parts)})" if parts else ""


def _losses(found: Sequence[Difference]) -> str:
    """How many of all tested differences are significantly worse, and which."""
    tested = [each for each in found if math.isfinite(each.row.low)]
    if not tested:
        return "With one seed no difference is tested"
    worse = [each for each in found if each.verdict == "worse"]
    names = "; ".join(f"{each.row.metric.label.split(' (')[0]} ({each.method})" for each in worse)
    count = f"{len(worse)} of {len(tested)} differences"
    return f"Significantly worse: {count}" + (f": {names}" if names else "")


def _costs(methods: Sequence[Evidence]) -> str:
    """Cheapest and dearest method, in operations: runs side by side have no seconds to compare."""
    ratios = sorted(cost_ratios(methods), key=lambda item: item[1])
    ends = dict.fromkeys((ratios[0], ratios[-1])) if ratios else ()
    text = " to ".join(f"{ratio:.2f} ({method})" for method, ratio in ends)
    return f"{text} times the forward FLOPs of the training" if text else "not counted"
