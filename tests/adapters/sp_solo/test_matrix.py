"""Every method of METHODS, with each backbone it takes: baseline, SP on, weight 0.

Through the real main_pretrain.py. ``make solo-matrix`` runs this alone and prints the table.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

pytestmark = pytest.mark.timeout(1200)

COLUMNS = ("baseline", "SP on", "weight 0")
METHODS = (
    "all4one", "barlow_twins", "base", "byol", "deepclusterv2", "dino", "mocov2plus", "mocov3",
    "nnbyol", "nnclr", "nnsiam", "ressl", "simclr", "simsiam", "supcon", "swav", "vibcreg",
    "vicreg", "wmse",
)  # fmt: skip
ROWS = [
    *((method, "resnet18") for method in METHODS),
    *((method, "vit_tiny") for method in ("mae", *METHODS)),
    *((method, "multi_crop") for method in ("swav", "dino", "byol", "simclr")),
]


@pytest.mark.parametrize(("method", "kind"), ROWS, ids=["-".join(row) for row in ROWS])
def test_each_method_meets_contract(
    solo: Any, method: str, kind: str, tmp_path: Path, table: Any
) -> None:
    cell = table("solo-learn", ("method", "backbone"), (method, kind), COLUMNS)
    baseline = solo.pretrain(tmp_path / "baseline", method, kind)
    cell("baseline", "runs")

    on = solo.pretrain(tmp_path / "on", method, kind, "++sp.enabled=true", "++sp.weight=1")
    assert "SP is on" in on.output and on.sp["step"] == 2
    assert all(key.endswith("num_batches_tracked") or torch.isfinite(value).all()
               for key, value in on.state.items())  # fmt: skip
    assert math.isfinite(on.metrics["train_sp_loss"])
    assert on.unmoved_parameters() == []
    moved = [key for key in baseline.state if not torch.equal(baseline.state[key], on.state[key])]
    assert any(key.startswith("backbone.") for key in moved)
    cell("SP on", "trains")

    zero = solo.pretrain(tmp_path / "zero", method, kind, "++sp.weight=0")
    assert zero.sp["step"] == 2
    assert zero.same(baseline)
    cell("weight 0", "identical")
