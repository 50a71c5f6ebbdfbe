"""A comparison with known metrics."""

from __future__ import annotations

import copy
import math

import pytest
from sp_bench.results import MetricSpec, Results, Row, Run

KNN = MetricSpec("knn", "kNN (top-1)", percent=True, chance=0.25)
GAIN = MetricSpec("pair_dx_gain", "pair: dx, gain over one view (R2)")
DEPTH = MetricSpec("depth_rmse", "depth RMSE [m]", higher_is_better=False)
ROWS = [
    Row(KNN, 0.7821, 0.7852, 0.0031, -0.002, 0.008, 3),
    Row(GAIN, 0.1306, 0.0906, -0.04, -0.0612, -0.0188, 3, p_value=0.001),
    Row(DEPTH, 0.412, 0.4, -0.012, -0.02, -0.004, 3, p_value=0.06),
    Row(MetricSpec("pair_dx_r2", "both", headline=False), 0.3, 0.25, -0.05, -0.1, 0.0, 3),
    Row(MetricSpec("pair_dx_one", "one", headline=False), 0.1694, 0.1594, -0.01, -0.1, 0.1, 3),
    Row(MetricSpec("abs_rel", "AbsRel", headline=False), 0.2, 0.2, 0.0, math.nan, math.nan, 2),
]


def _run(arm: str, seed: int) -> Run:
    sp = {"sp_loss": 0.5, "sp_r2_dx": 0.1, "sp_r2_scale": 0.4, "sp_weight": 0.3}
    curve = [{"epoch": e, "loss": 5.0 - e - seed, **(sp if arm == "sp" else {})} for e in range(3)]
    metrics = {"knn": 0.78 + 0.01 * seed + (0.003 if arm == "sp" else 0), "pair_dx_gain": 0.1}
    return Run(arm, seed, metrics, curve, 100 if arm == "baseline" else 150, 6000)


@pytest.fixture
def results() -> Results:
    return Results(
        settings={"method": "simclr", "backbone": "tiny_resnet", "sp": {"weight": 0.25}},
        versions={"torch": "9.8.7"},
        machine={"processor": "abacus", "cores": 2},
        data={
            "name": "holiday",
            "classes": ["sea", "wood"],
            "train": 70,
            "skipped": ["bad.jpg"],
        },
        runs=[_run(arm, seed) for seed in range(3) for arm in ("baseline", "sp")],
        rows=copy.deepcopy(ROWS),
    )
