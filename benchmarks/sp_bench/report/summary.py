"""The result of a comparison in one sentence."""

from __future__ import annotations

from sp_bench.report.number_format import format_value, verdict
from sp_bench.results import Results, Row

# What the sentence calls a metric; of each group the first that was measured is in it.
_GROUPS = (
    {
        "jigsaw_2x2_piece": "patches in place",
        "pair_interaction_gain": "pair interaction",
        "pair_dx_gain": "horizontal offset of pairs",
    },
    {"linear": "recognition", "knn": "recognition"},
)


def summary_sentence(results: Results) -> str:
    """What changed with SP in position and in recognition, and each headline that is worse.

    A change is significant where its 95% interval over the seeds excludes 0. One seed has no
    interval, and the sentence says so.

    >>> from sp_bench.results import MetricSpec
    >>> rows = [
    ...     Row(MetricSpec("knn", "kNN", True), 0.52, 0.51, -0.01, -0.04, 0.02, 3),
    ...     Row(MetricSpec("jigsaw_2x2_piece", "jigsaw", True), 0.47, 0.58, 0.11, 0.08, 0.14, 3),
    ... ]
    >>> summary_sentence(Results({}, {}, {}, {}, [], rows))
    'SP: patches in place 47.0% -> 58.0%, recognition 52.0% -> 51.0% (not significant); 3 seeds'
    """
    rows = {row.metric.key: row for row in results.rows if row.seeds}
    parts = []
    for group in _GROUPS:
        key = next((key for key in group if key in rows), None)
        if key is not None:
            parts.append(f"{group[key]} {_change(rows[key])}")
    for row in rows.values():
        if row.metric.headline and verdict(row) == "worse":
            parts.append(f"worse: {row.metric.label}")
    seeds = max((row.seeds for row in rows.values()), default=0)
    count = f"{seeds} seeds" if seeds > 1 else "1 seed, which gives no interval"
    return f"SP: {', '.join(parts) or 'no metric was measured'}; {count}"


def _change(row: Row) -> str:
    unit = "%" if row.metric.percent else ""
    before, after = (format_value(row.metric, value) for value in (row.baseline, row.sp))
    remark = " (not significant)" if row.seeds > 1 and not verdict(row) else ""
    return f"{before}{unit} -> {after}{unit}{remark}"
