"""Results of suites: evidence by suite, and the metrics that its runs have."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from sp_bench.config import METHOD_NAMES
from sp_bench.errors import UsageError
from sp_bench.report.comparison_table import known_metrics
from sp_bench.results import BASELINE, SP, MetricSpec, Run
from sp_bench.sweeps.collect import Evidence

_COMPONENTS = ("dx", "dy", "scale")

EQUAL_GAIN = MetricSpec(
    "pair_equal_gain",
    "pair: mean of dx, dy and scale, sharpness equalised, gain over one view (R2)",
    chance=0.0,
)
DX_GAIN = MetricSpec(
    "pair_dx_equal_gain", "pair: dx, sharpness equalised, gain over one view (R2)", chance=0.0
)


def read_suites(folder: Path) -> dict[str, list[Evidence]]:
    """Evidence by suite, with methods in the order of `METHOD_NAMES`.

    Args:
        folder: has one folder per suite, with one ``METHOD.json`` per method.

    Raises:
        UsageError: there is no such file.
    """
    suites: dict[str, list[Evidence]] = {}
    for path in sorted(folder.glob("*/*.json")):
        evidence = Evidence.load(path)
        evidence.runs = [_with_equal_gains(run) for run in evidence.runs]
        suites.setdefault(evidence.suite, []).append(evidence)
    if not suites:
        raise UsageError(
            f"results: no SUITE/METHOD.json in {folder}; `sp-bench collect` makes them"
        )
    for methods in suites.values():
        methods.sort(key=lambda evidence: METHOD_NAMES.index(evidence.settings["method"]))
    return suites


def _with_equal_gains(run: Run) -> Run:
    """The run with its gains over one view for pairs of equal sharpness, and their mean."""
    metrics = run.metrics
    gains = {
        f"pair_{name}_equal_gain": metrics[f"pair_{name}_equal"] - metrics[f"pair_{name}_equal_one"]
        for name in _COMPONENTS
        if f"pair_{name}_equal" in metrics
    }
    if len(gains) == len(_COMPONENTS):
        gains[EQUAL_GAIN.key] = sum(gains.values()) / len(gains)
    return dataclasses.replace(run, metrics={**gains, **metrics})


def count_seeds(evidence: Evidence, baseline: str = BASELINE, arm: str = SP) -> int:
    """Number of seeds that both arms have."""
    seeds = [{run.seed for run in evidence.runs if run.arm == name} for name in (baseline, arm)]
    return len(set.intersection(*seeds))


def with_sp(methods: Sequence[Evidence]) -> list[Evidence]:
    """The methods that have a seed both with and without SP."""
    return [evidence for evidence in methods if count_seeds(evidence)]


def measured_keys(methods: Sequence[Evidence]) -> set[str]:
    """Keys of the metrics that some run has."""
    return {key for evidence in methods for run in evidence.runs for key in run.metrics}


def headlines(methods: Sequence[Evidence]) -> list[MetricSpec]:
    """The headline metrics that some run has, in the order of the tasks."""
    measured = measured_keys(methods)
    known = [metric for metric in known_metrics().values() if metric.headline]
    place = next((i for i, metric in enumerate(known) if metric.key.startswith("pair_dx")), 0)
    known[place:place] = [EQUAL_GAIN]
    return [metric for metric in known if metric.key in measured]
