"""The functions that crop: the same boxes for all, and the errors in the table."""

from __future__ import annotations

import sys

import pytest
import torch
from sp_bench.speed.crop_benchmark import (
    FRACTIONAL,
    GRID,
    KORNIA,
    ONE_BY_ONE,
    OURS,
    ROI,
    SHARED,
    SLICES,
    all_functions,
    measure,
    one_by_one,
    sample_boxes,
)
from sp_bench.speed.reference_resize import reference_crop
from sp_bench.speed.settings import SpeedSettings

from sp_plugin.crops.boxes import cxcywh_to_xyxy

CPU = torch.device("cpu")
STEP = 1 / 255


def test_only_crop_resize_is_exact() -> None:
    measured = measure(4, 64, 16, SpeedSettings(device="cpu", repeats=1))
    assert measured["errors"][OURS]["max"] <= STEP
    assert measured["fractional_errors"][FRACTIONAL]["max"] <= STEP
    for name in (GRID, ROI):
        assert measured["errors"][name]["mean"] > STEP
        assert measured["errors"][name]["max"] > measured["errors"][name]["mean"]
        assert measured["fractional_errors"][name]["mean"] > STEP
    assert ONE_BY_ONE not in measured["errors"]
    assert set(measured["seconds"]) >= {OURS, FRACTIONAL, SHARED, ONE_BY_ONE, GRID, ROI}


@pytest.mark.parametrize("side", [64, 96])
def test_all_ways_crop_the_same_boxes(side: int) -> None:
    # On a ramp nothing is lost by filtering or sampling: a crop's mean reveals its box.
    boxes = sample_boxes(6, side, 16, CPU)
    assert torch.equal((cxcywh_to_xyxy(boxes.rounded) * side).round().int(), boxes.edges)
    x = (torch.arange(side) + 0.5).expand(side, side)
    images = torch.stack([x, x.T, x + x.T]).expand(6, 3, side, side)
    ways = all_functions(images, boxes, 16)
    middle = (boxes.edges[:, :2] + boxes.edges[:, 2:]) / 2
    drawn = boxes.sampled[:, :2] * side
    for name, way in ways.items():
        found = way()
        assert found.shape == (6, 3, 16, 16)
        centre = drawn if name in (FRACTIONAL, SHARED) else middle
        torch.testing.assert_close(found[:, :2].mean((2, 3)), centre, atol=0.26, rtol=0, msg=name)


def test_reference_matches_torchvision() -> None:
    images = torch.rand(3, 3, 40, 40, generator=torch.Generator().manual_seed(0))
    edges = torch.tensor([[0, 0, 40, 40], [3, 5, 10, 38], [20, 1, 39, 9]])
    exact = reference_crop(images, edges.double(), 12)
    torch.testing.assert_close(exact, one_by_one(images, edges.tolist(), 12), atol=1e-5, rtol=0)


def test_missing_kornia_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "kornia.augmentation", None)
    measured = measure(2, 32, 8, SpeedSettings(device="cpu", repeats=1))
    assert set(measured["missing"]) == set(KORNIA)
    assert "not installed" in measured["missing"][SLICES]
    assert not set(measured["missing"]) & set(measured["seconds"])
