"""Differences between two arms of a suite, over methods and metrics: one family of tests."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from sp_bench.report.number_format import verdict
from sp_bench.results import BASELINE, SP, MetricSpec, Row
from sp_bench.stats import cost_ratio, mean_over_methods, rows, survives_correction
from sp_bench.sweeps.collect import Evidence


class Difference(NamedTuple):
    """Difference of one metric of one method, and what the corrected test says of it.

    Attributes:
        method: name of the method.
        row: its means, difference and interval.
        verdict: ``better`` or ``worse`` where the difference survives the correction for all
            differences between the two arms, else empty.
    """

    method: str
    row: Row
    verdict: str


def differences(
    methods: Sequence[Evidence], metrics: Sequence[MetricSpec], baseline: str, arm: str
) -> list[Difference]:
    """Differences between two arms, method by method; those without a common seed are left out."""
    found = [
        (str(evidence.settings["method"]), row)
        for evidence in methods
        for row in rows(evidence.runs, metrics, baseline, arm)
        if row.seeds
    ]
    survives = survives_correction([row.p_value for _, row in found])
    return [
        Difference(method, row, verdict(row) if survived else "")
        for (method, row), survived in zip(found, survives, strict=True)
    ]


def of_metric(found: Sequence[Difference], key: str) -> list[Difference]:
    """Those of one metric."""
    return [difference for difference in found if difference.row.metric.key == key]


def mean_row(found: Sequence[Difference]) -> Row:
    """The differences of one metric as a mean over methods, each of which counts once."""
    return mean_over_methods([difference.row for difference in found])


def cost_ratios(
    methods: Sequence[Evidence], baseline: str = BASELINE, arm: str = SP
) -> list[tuple[str, float]]:
    """Name of each method, and its operations in ``arm`` over those in ``baseline``; if counted."""
    ratios = [(str(e.settings["method"]), cost_ratio(e.runs, baseline, arm)) for e in methods]
    return [(method, ratio) for method, ratio in ratios if not math.isnan(ratio)]
