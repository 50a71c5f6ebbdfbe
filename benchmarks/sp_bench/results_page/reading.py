"""What there is to publish: evidence by suite, and the figures that its runs have."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from sp_bench.config import METHOD_NAMES
from sp_bench.errors import UsageError
from sp_bench.report.table import known_figures
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


def read(folder: Path) -> dict[str, list[Evidence]]:
    """Evidence by suite, hosts in the order in which ``method`` names them.

    Args:
        folder: with a folder of ``HOST.json`` for each suite.

    Raises:
        UsageError: there is none.
    """
    found: dict[str, list[Evidence]] = {}
    for path in sorted(folder.glob("*/*.json")):
        evidence = Evidence.load(path)
        evidence.runs = [_derived(run) for run in evidence.runs]
        found.setdefault(evidence.suite, []).append(evidence)
    if not found:
        raise UsageError(f"results: no SUITE/HOST.json in {folder}; `sp-bench collect` makes them")
    for hosts in found.values():
        hosts.sort(key=lambda each: METHOD_NAMES.index(each.settings["method"]))
    return found


def _derived(run: Run) -> Run:
    told = run.figures
    gains = {
        f"pair_{name}_equal_gain": told[f"pair_{name}_equal"] - told[f"pair_{name}_equal_one"]
        for name in _COMPONENTS
        if f"pair_{name}_equal" in told
    }
    if len(gains) == len(_COMPONENTS):
        gains[EQUAL_GAIN.key] = sum(gains.values()) / len(gains)
    return dataclasses.replace(run, figures={**gains, **told})


def seeds_of(evidence: Evidence, baseline: str = BASELINE, arm: str = SP) -> int:
    """How many seeds were run in both arms."""
    seeds = [{run.seed for run in evidence.runs if run.arm == each} for each in (baseline, arm)]
    return len(set.intersection(*seeds))


def paired(hosts: Sequence[Evidence]) -> list[Evidence]:
    """The hosts of which there is a difference to tell."""
    return [each for each in hosts if seeds_of(each)]


def headlines(hosts: Sequence[Evidence]) -> list[MetricSpec]:
    """The headline figures that a run of these hosts has, in the order of the tasks."""
    had = {key for each in hosts for run in each.runs for key in run.figures}
    known = [figure for figure in known_figures().values() if figure.headline]
    place = next((i for i, figure in enumerate(known) if figure.key.startswith("pair_")), 0)
    known[place:place] = [EQUAL_GAIN]
    return [figure for figure in known if figure.key in had]
