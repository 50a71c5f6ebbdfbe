"""Goals of SP at its default settings: against the baseline, and against as much compute."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from sp_bench.goals import Goal, at_least, at_most
from sp_bench.results import BASELINE, LONGER, SP
from sp_bench.results_page.differences import Difference, differences, mean_difference, of_metric
from sp_bench.results_page.reading import headlines
from sp_bench.stats import cost_ratio
from sp_bench.sweeps.collect import Evidence

_JIGSAW_3X3, _JIGSAW_2X2 = "jigsaw_3x3_piece", "jigsaw_2x2_perfect"
_INTERACTION = "pair_interaction_gain"
_MAE = "mae"


def goals_at_equal_cost(methods: Sequence[Evidence]) -> list[Goal]:
    """Every goal, with the value that is furthest from it or the number of methods."""
    metrics = headlines(methods)
    gain = differences(methods, metrics, BASELINE, SP)
    over_longer = differences(methods, metrics, LONGER, SP)
    costs = [(str(e.settings["method"]), cost_ratio(e.runs, BASELINE, SP)) for e in methods]
    costs = [(method, cost) for method, cost in costs if not math.isnan(cost)]
    robustness = of_metric(over_longer, "robustness_v2")
    return [
        _mean("jigsaw 3x3, patches put right: up by 5 points", 5, of_metric(gain, _JIGSAW_3X3)),
        _mean("jigsaw 2x2, images wholly right: up by 10 points", 10, of_metric(gain, _JIGSAW_2X2)),
        _mean("pair interaction: up by 0.05 R2", 0.05, of_metric(gain, _INTERACTION)),
        *(
            _count(f"{name}: significantly better for each method", _tested(gain, key), _is_better)
            for name, key in (
                ("jigsaw 3x3, patches", _JIGSAW_3X3),
                ("jigsaw 2x2, images", _JIGSAW_2X2),
            )
        ),
        _count(
            "robustness: not below longer for most methods",
            robustness,
            lambda found: found.row.difference >= 0,
            least=len(robustness) // 2 + 1,
        ),
        *(
            _count(
                f"{name}: at most 0.3 points below longer, for all methods but one",
                of_metric(over_longer, key),
                lambda found: found.row.difference >= -0.003,
                least=len(of_metric(over_longer, key)) - 1,
            )
            for name, key in (("kNN", "knn"), ("linear probe", "linear"))
        ),
        at_most("cost at most 1.15", 1.15, [item for item in costs if item[0] != _MAE]),
        at_most("cost with MAE at most 1.5", 1.5, [item for item in costs if item[0] == _MAE]),
    ]


def _tested(found: Sequence[Difference], key: str) -> list[Difference]:
    """Those of one metric with two seeds or more: one seed has no interval."""
    return [each for each in of_metric(found, key) if math.isfinite(each.row.low)]


def _is_better(found: Difference) -> bool:
    return found.verdict == "better"


def _mean(text: str, least: float, found: Sequence[Difference]) -> Goal:
    """Goal for the mean over methods, in points or R2."""
    if not found:
        return Goal(text, "", None)
    percent = found[0].row.metric.percent
    value = (100 if percent else 1) * mean_difference(found)
    form = "+.1f" if percent else "+.3f"
    return at_least(text, least, [(f"mean of {len(found)}", value)], form)


def _count(
    text: str,
    found: Sequence[Difference],
    holds: Callable[[Difference], bool],
    least: int | None = None,
) -> Goal:
    """Goal that it holds for at least so many methods; default for all."""
    if not found:
        return Goal(text, "", None)
    count = sum(map(holds, found))
    needed = len(found) if least is None else least
    return Goal(text, f"{count} of {len(found)}", count >= needed)
