"""Goals of SP over all methods of a suite, and their outcomes."""

from __future__ import annotations

from collections.abc import Sequence

from sp_bench.goals import Goal, at_least
from sp_bench.report.comparison_table import known_metrics
from sp_bench.report.number_format import verdict
from sp_bench.results import MetricSpec, Row
from sp_bench.results_page.reading import DX_GAIN, EQUAL_GAIN
from sp_bench.stats import rows
from sp_bench.sweeps.collect import Evidence

_JIGSAW, _ROBUSTNESS = "jigsaw_3x3_piece", "robustness"
_RECOGNITION = {"knn": "kNN", "linear": "linear probe"}
_TRANSFER = {
    "fine_grained_linear": "flowers, linear probe",
    "segmentation_miou": "CamVid, mIoU",
    "depth_rmse": "demo, depth RMSE",
}


def goals(methods: Sequence[Evidence]) -> list[Goal]:
    """Every goal, with the method that is furthest from it or the number of methods."""
    known = {**known_metrics(), EQUAL_GAIN.key: EQUAL_GAIN, DX_GAIN.key: DX_GAIN}
    keys = (EQUAL_GAIN.key, DX_GAIN.key, _JIGSAW, _ROBUSTNESS, *_RECOGNITION, *_TRANSFER)
    by_key = {key: _rows(methods, known[key]) for key in keys}
    recognition = [
        (f"{method}, {name.removesuffix(' probe')}", value)
        for key, name in _RECOGNITION.items()
        for method, value in _differences(by_key[key], 100)
    ]
    return [
        at_least(
            "pair gain, sharpness equalised, mean of dx, dy and scale: up by 0.10 R2",
            0.10,
            _differences(by_key[EQUAL_GAIN.key]),
            "+.3f",
        ),
        _above_0(
            "pair gain of dx, sharpness equalised: above 0",
            [(method, row.sp) for method, row in by_key[DX_GAIN.key]],
        ),
        at_least(
            "jigsaw 3x3, patches put right: up by 8 points",
            8,
            _differences(by_key[_JIGSAW], 100),
            "+.1f",
        ),
        at_least(
            "robustness, mean of 15 corruptions: not lower for any method",
            0,
            _differences(by_key[_ROBUSTNESS], 100),
            "+.1f",
        ),
        _for_most("robustness: higher for most methods", by_key[_ROBUSTNESS]),
        at_least(
            "kNN and linear probe: not lower by more than 0.3 points", -0.3, recognition, "+.1f"
        ),
        *(
            _significant_for_half(
                f"{name}: significantly higher for half of the methods", by_key[key]
            )
            for key, name in _RECOGNITION.items()
        ),
        *(
            _for_most(f"{name}: better for most methods", by_key[key])
            for key, name in _TRANSFER.items()
        ),
    ]


def _rows(methods: Sequence[Evidence], metric: MetricSpec) -> list[tuple[str, Row]]:
    """Name and row of each method that has the metric."""
    by_method = [
        (str(evidence.settings["method"]), rows(evidence.runs, [metric])[0]) for evidence in methods
    ]
    return [(method, row) for method, row in by_method if row.seeds]


def _differences(
    by_method: Sequence[tuple[str, Row]], factor: float = 1
) -> list[tuple[str, float]]:
    return [(method, factor * row.difference) for method, row in by_method]


def _above_0(text: str, values: Sequence[tuple[str, float]]) -> Goal:
    if not values:
        return Goal(text, "", None)
    method, value = min(values, key=lambda item: item[1])
    return Goal(text, f"{value:+.3f} ({method})", value > 0)


def _for_most(text: str, by_method: Sequence[tuple[str, Row]]) -> Goal:
    if not by_method:
        return Goal(text, "", None)
    signs = [1 if row.metric.higher_is_better else -1 for _, row in by_method]
    better = [sign * row.difference > 0 for sign, (_, row) in zip(signs, by_method, strict=True)]
    count = sum(better)
    return Goal(text, f"{count} of {len(better)}", 2 * count > len(better))


def _significant_for_half(text: str, by_method: Sequence[tuple[str, Row]]) -> Goal:
    if all(row.seeds == 1 for _, row in by_method):
        return Goal(text, "", None)  # one seed has no interval
    better = [verdict(row) == "better" for _, row in by_method]
    count = sum(better)
    return Goal(text, f"{count} of {len(better)}", 2 * count >= len(better))
