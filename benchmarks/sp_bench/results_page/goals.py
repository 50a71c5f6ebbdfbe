"""Goals of SP over all methods of a suite, and their outcomes."""

from __future__ import annotations

import math
from collections.abc import Sequence

from sp_bench.goals import Goal, at_least, count_at_least
from sp_bench.report.comparison_table import known_metrics
from sp_bench.report.number_format import verdict
from sp_bench.results import Row
from sp_bench.results_page.reading import DX_GAIN, EQUAL_GAIN
from sp_bench.stats import rows
from sp_bench.sweeps.collect import Evidence

_JIGSAW = "jigsaw_3x3_piece"
_ROBUSTNESS = ("robustness_v2", "robustness")  # the first one that was measured
_RECOGNITION = {"knn": "kNN", "linear": "linear probe"}
_TRANSFER = {
    "fine_grained_linear": "flowers, linear probe",
    "segmentation_miou": "CamVid, mIoU",
    "depth_rmse": "demo, depth RMSE",
}


def goals(methods: Sequence[Evidence]) -> list[Goal]:
    """Every goal, with the method that is furthest from it or the number of methods."""
    known = {**known_metrics(), EQUAL_GAIN.key: EQUAL_GAIN, DX_GAIN.key: DX_GAIN}

    def rows_of(key: str) -> list[tuple[str, Row]]:
        """Name and row of each method that has the metric."""
        named = [(str(e.settings["method"]), rows(e.runs, [known[key]])[0]) for e in methods]
        return [(method, row) for method, row in named if row.seeds]

    def differences(key: str, name: str = "") -> list[tuple[str, float]]:
        factor = 100 if known[key].percent else 1
        return [(f"{method}{name}", factor * row.difference) for method, row in rows_of(key)]

    robustness = next((key for key in _ROBUSTNESS if rows_of(key)), _ROBUSTNESS[0])
    return [
        at_least(
            "pair gain, sharpness equalised, mean of dx, dy and scale: up by 0.10 R2",
            0.10,
            differences(EQUAL_GAIN.key),
            "+.3f",
        ),
        at_least(
            "pair gain of dx, sharpness equalised: above 0",
            math.ulp(0.0),
            [(method, row.sp) for method, row in rows_of(DX_GAIN.key)],
            "+.3f",
        ),
        at_least("jigsaw 3x3, patches put right: up by 8 points", 8, differences(_JIGSAW), "+.1f"),
        at_least(
            "robustness, mean of 15 corruptions: not lower for any method",
            0,
            differences(robustness),
            "+.1f",
        ),
        _for_most("robustness: higher for most methods", rows_of(robustness)),
        at_least(
            "kNN and linear probe: not lower by more than 0.3 points",
            -0.3,
            [
                item
                for key, name in _RECOGNITION.items()
                for item in differences(key, f", {name.removesuffix(' probe')}")
            ],
            "+.1f",
        ),
        *(
            _significant_for_half(
                f"{name}: significantly higher for half of the methods", rows_of(key)
            )
            for key, name in _RECOGNITION.items()
        ),
        *(
            _for_most(f"{name}: better for most methods", rows_of(key))
            for key, name in _TRANSFER.items()
        ),
    ]


def _for_most(text: str, by_method: Sequence[tuple[str, Row]]) -> Goal:
    better = [
        row.difference > 0 if row.metric.higher_is_better else row.difference < 0
        for _, row in by_method
    ]
    return count_at_least(text, better, len(better) // 2 + 1)


def _significant_for_half(text: str, by_method: Sequence[tuple[str, Row]]) -> Goal:
    if all(row.seeds == 1 for _, row in by_method):
        return Goal(text, "", None)  # one seed has no interval
    better = [verdict(row) == "better" for _, row in by_method]
    return count_at_least(text, better, (len(better) + 1) // 2)
