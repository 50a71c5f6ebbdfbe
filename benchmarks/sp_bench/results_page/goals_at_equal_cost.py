"""Goals of SP at its default settings: against the baseline, and against as much compute."""

from __future__ import annotations

from collections.abc import Sequence

from sp_bench.goals import Goal, at_least, at_most, count_at_least
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

_JIGSAW_3X3, _JIGSAW_2X2 = "jigsaw_3x3_piece", "jigsaw_2x2_perfect"
_INTERACTION = "pair_interaction_gain"
_MAE = "mae"


def goals_at_equal_cost(methods: Sequence[Evidence]) -> list[Goal]:
    """Every goal, with the value that is furthest from it or the number of methods."""
    metrics = headlines(methods)
    gain = differences(methods, metrics, BASELINE, SP)
    over_longer = differences(methods, metrics, LONGER, SP)
    costs = cost_ratios(methods)
    robustness = [each.row.difference >= 0 for each in of_metric(over_longer, "robustness_v2")]
    return [
        _mean("jigsaw 3x3, patches put right: up by 5 points", 5, of_metric(gain, _JIGSAW_3X3)),
        _mean("jigsaw 2x2, images wholly right: up by 10 points", 10, of_metric(gain, _JIGSAW_2X2)),
        _mean("pair interaction: up by 0.05 R2", 0.05, of_metric(gain, _INTERACTION)),
        *(
            _better_for_all(f"{name}: better for each method after the correction", gain, key)
            for name, key in (
                ("jigsaw 3x3, patches", _JIGSAW_3X3),
                ("jigsaw 2x2, images", _JIGSAW_2X2),
            )
        ),
        count_at_least(
            "robustness: not below longer for most methods", robustness, len(robustness) // 2 + 1
        ),
        *(
            _near_longer_but_one(
                f"{name}: at most 0.3 points below longer, for all methods but one",
                of_metric(over_longer, key),
            )
            for name, key in (("kNN", "knn"), ("linear probe", "linear"))
        ),
        at_most("cost at most 1.15", 1.15, [item for item in costs if item[0] != _MAE]),
        at_most("cost with MAE at most 1.5", 1.5, [item for item in costs if item[0] == _MAE]),
    ]


def _better_for_all(text: str, gain: Sequence[Difference], key: str) -> Goal:
    """Goal over the methods with two seeds or more: one seed has no interval."""
    better = [x.verdict == "better" for x in of_metric(gain, key) if x.row.seeds > 1]
    return count_at_least(text, better, len(better))


def _near_longer_but_one(text: str, over_longer: Sequence[Difference]) -> Goal:
    holds = [each.row.difference >= -0.003 for each in over_longer]
    return count_at_least(text, holds, len(holds) - 1)


def _mean(text: str, least: float, found: Sequence[Difference]) -> Goal:
    """Goal for the mean over methods, in points or R2."""
    if not found:
        return Goal(text, "", None)
    row = mean_row(found)
    percent = row.metric.percent
    value = (100 if percent else 1) * row.difference
    form = "+.1f" if percent else "+.3f"
    return at_least(text, least, [(f"mean of {len(found)}", value)], form)
