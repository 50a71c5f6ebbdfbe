"""Weight 0 ends in the weights of the baseline, bit for bit, for every method."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from sp_bench.config import METHOD_NAMES, Settings
from sp_bench.data import load_data
from sp_bench.methods import METHODS
from sp_bench.pretrain import pretrain

BATCH, STEPS = 8, 5
VIT = ("dino", "mae")


@pytest.fixture(scope="module")
def images() -> Any:
    return load_data("demo", size=BATCH * STEPS).train


def weights(method: str, arm: str, images: Any, folder: Path, **sp: Any) -> dict[str, Any]:
    settings = Settings(
        method=method,
        backbone="tiny_vit" if method in VIT else "tiny_resnet",
        epochs=1,
        side=32,
        batch_size=BATCH,
        sp=sp,
    )
    folder.mkdir()
    trained = pretrain(settings, arm, 0, images, folder, lambda *_: None)
    return trained.method.state_dict()


def test_every_method_is_named_once() -> None:
    assert tuple(METHODS) == METHOD_NAMES


@pytest.mark.parametrize("method", METHOD_NAMES)
def test_only_weight_0_equals_baseline(method: str, images: Any, tmp_path: Path) -> None:
    baseline = weights(method, "baseline", images, tmp_path / "baseline")
    off = weights(method, "sp", images, tmp_path / "off", weight=0)
    on = weights(method, "sp", images, tmp_path / "on", weight=1, warmup_fraction=0)
    assert baseline.keys() == off.keys() == on.keys()
    assert [key for key in baseline if not torch.equal(baseline[key], off[key])] == []
    changed = [key for key in baseline if not torch.equal(baseline[key], on[key])]
    assert any(key.startswith("backbone.") for key in changed)
