"""Evidence of a suite from runs made by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sp_bench.results import Run
from sp_bench.sweeps.collect import Evidence


def evidence_of(suite: str, method: str, arms: dict[str, Any], runs: Sequence[Run]) -> Evidence:
    """Evidence of one method with given arms and runs; all else is made up."""
    return Evidence(
        suite=suite,
        command="sp-bench suite x.yaml",
        settings={"method": method, "backbone": "tiny_resnet", "batch_size": 8, "side": 32},
        arms=arms,
        data={"name": "scenes", "train": 10000, "test": 3000},
        versions={"torch": "2.15.0"},
        machine={"device": "cpu", "processor": "x", "precision": "32-true"},
        dates=["2026-01-02"],
        runs=list(runs),
    )
