"""The ways to crop: the same boxes for all, and the errors that the table gives."""

from __future__ import annotations

import sys

import pytest
import torch
from sp_bench.speed.crop_benchmark import (
    EACH,
    FRACTIONAL,
    GRID,
    KORNIA,
    OURS,
    ROI,
    SHARED,
    SLICES,
    all_ways,
    draw_boxes,
    measure,
    one_by_one,
)
from sp_bench.speed.reference_resize import by_definition
from sp_bench.speed.settings import SpeedSettings

from sp_plugin.crops.boxes import cxcywh_to_xyxy

CPU = torch.device("cpu")
STEP = 1 / 255


def test_crop_resize_is_exact_and_what_does_not_filter_is_not() -> None:
    told = measure(4, 64, 16, SpeedSettings(device="cpu", repeats=1))
    assert told["errors"][OURS]["max"] <= STEP
    assert told["fractional_errors"][FRACTIONAL]["max"] <= STEP
    for name in (GRID, ROI):
        assert told["errors"][name]["mean"] > STEP
        assert told["errors"][name]["max"] > told["errors"][name]["mean"]
        assert told["fractional_errors"][name]["mean"] > STEP
    assert EACH not in told["errors"]
    assert set(told["seconds"]) >= {OURS, FRACTIONAL, SHARED, EACH, GRID, ROI}


@pytest.mark.parametrize("side", [64, 96])
def test_all_ways_cut_the_same_boxes(side: int) -> None:
    # On a ramp nothing is lost by filtering or sampling: a crop's mean tells its box.
    boxes = draw_boxes(6, side, 16, CPU)
    assert torch.equal((cxcywh_to_xyxy(boxes.whole) * side).round().int(), boxes.edges)
    x = (torch.arange(side) + 0.5).expand(side, side)
    images = torch.stack([x, x.T, x + x.T]).expand(6, 3, side, side)
    ways = all_ways(images, boxes, 16)
    middle = (boxes.edges[:, :2] + boxes.edges[:, 2:]) / 2
    drawn = boxes.drawn[:, :2] * side
    for name, way in ways.items():
        found = way()
        assert found.shape == (6, 3, 16, 16)
        centre = drawn if name in (FRACTIONAL, SHARED) else middle
        torch.testing.assert_close(found[:, :2].mean((2, 3)), centre, atol=0.26, rtol=0, msg=name)


def test_the_definition_is_torchvision_s_on_whole_pixels() -> None:
    images = torch.rand(3, 3, 40, 40, generator=torch.Generator().manual_seed(0))
    edges = torch.tensor([[0, 0, 40, 40], [3, 5, 10, 38], [20, 1, 39, 9]])
    exact = by_definition(images, edges.double(), 12)
    torch.testing.assert_close(exact, one_by_one(images, edges.tolist(), 12), atol=1e-5, rtol=0)


def test_without_kornia_its_rows_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "kornia.augmentation", None)
    told = measure(2, 32, 8, SpeedSettings(device="cpu", repeats=1))
    assert set(told["missing"]) == set(KORNIA)
    assert "not installed" in told["missing"][SLICES]
    assert not set(told["missing"]) & set(told["seconds"])
