"""onedl-mmpretrain, the fork of MMPretrain that goes on; in an environment of its own.

Its package is called ``mmpretrain``, so that it takes the place of MMPretrain 1.2.0.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

try:
    VERSION = importlib.metadata.version("onedl-mmpretrain")
except importlib.metadata.PackageNotFoundError:
    pytest.skip("needs onedl-mmpretrain: make framework-matrix", allow_module_level=True)

import mm_configs
from framework_table import COLUMNS, HEADS, MATRIX
from mm_resume import resumed_and_uninterrupted

ON = {"weight": 1.0, "warmup_fraction": 0.0}
PATHS = {
    "byol": "byol/byol_resnet50_16xb256-coslr-200e_in1k.py",
    "simmim": "simmim/simmim_swin-base-w6_16xb128-amp-coslr-100e_in1k-192px.py",
    "swav": "swav/swav_resnet50_8xb32-mcrop-coslr-200e_in1k-224px-96px.py",
}


@pytest.fixture
def train(tmp_path: Path, monkeypatch: Any) -> Callable[..., Any]:
    """Train one of `mm_configs.SMALL` for three steps, with SP if there are settings."""
    data = mm_configs.make_images(tmp_path / "data", 2 * mm_configs.STEPS)
    for name, path in PATHS.items():
        monkeypatch.setitem(mm_configs.SMALL, name, (path, mm_configs.SMALL[name][1]))

    def run(name: str, sp: dict[str, Any] | None = None, change: Any = None) -> Any:
        config = mm_configs.small("mmpretrain", name, data, tmp_path / name)
        if change is not None:
            change(config)
        return mm_configs.trained(config if sp is None else mm_configs.with_sp(config, **sp))

    return run


@pytest.mark.parametrize("name", sorted(mm_configs.SMALL))
def test_algorithm(name: str, train: Any, table: Any, tmp_path: Path) -> None:
    cell = table(MATRIX, HEADS, ("onedl-mmpretrain", VERSION, name), COLUMNS)
    baseline = train(name).model.state_dict()
    on = train(name, ON).model.state_dict()
    assert not mm_configs.same(mm_configs.without_sp(on), dict(baseline))
    cell("trains", "yes")
    off = train(name, {"weight": 0}).model.state_dict()
    assert mm_configs.same(mm_configs.without_sp(off), dict(baseline))
    cell("weight 0 equal", "yes")
    resumed, whole = resumed_and_uninterrupted(train, name, ON, tmp_path)
    assert mm_configs.same(resumed, whole)
    cell("resume equal", "yes")
    assert list(mm_configs.without_sp(on)) == list(baseline)
    cell("checkpoint clean", "yes")


def test_host_views(train: Any) -> None:
    on = {**ON, "source": "host_views"}
    baseline = train("swav").model.state_dict()
    trained = train("swav", on, mm_configs.with_views).model.state_dict()
    assert not mm_configs.same(mm_configs.without_sp(trained), dict(baseline))
    off = train("swav", {**on, "weight": 0}, mm_configs.with_views).model.state_dict()
    assert mm_configs.same(mm_configs.without_sp(off), dict(baseline))
