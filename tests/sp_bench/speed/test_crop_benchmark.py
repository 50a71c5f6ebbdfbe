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
    grid_sampled,
    measure,
    one_by_one,
    roi_aligned,
    sample_boxes,
)
from sp_bench.speed.settings import SpeedSettings
from torch import Tensor

from sp_plugin.crops.boxes import cxcywh_to_xyxy
from sp_plugin.crops.resize import crop_resize

CPU = torch.device("cpu")
STEP = 1 / 255


def reference_crop(images: Tensor, edges: Tensor, size: int) -> Tensor:
    """One box out of each image, computed pixel by pixel.

    An output pixel is a weighted mean of input pixels along both axes. The weight is a triangle
    around the centre of the output pixel, whose half-width is the larger of an input and an output
    pixel, times the fraction of the input pixel that lies in the box. For whole-pixel boxes this
    is torchvision's ``resized_crop(antialias=True)``.

    Args:
        images: (B, C, H, W).
        edges: (B, 4), left, top, right, bottom in pixels, not necessarily whole.
        size: side of the crops in pixels.

    Returns:
        (B, C, size, size), in the images' dtype.
    """
    crops = []
    for image, (left, top, right, bottom) in zip(images.double(), edges.tolist(), strict=True):
        rows = _means(top, bottom, image.shape[1], size).to(image)
        columns = _means(left, right, image.shape[2], size).to(image)
        crops.append(rows @ image @ columns.T)
    return torch.stack(crops).to(images.dtype)


def _means(low: float, high: float, pixels: int, size: int) -> Tensor:
    """Weights (size, pixels) of the input pixels for every output pixel."""
    step = (high - low) / size
    rows = []
    for i in range(size):
        centre = low + (i + 0.5) * step
        weights = [
            max(0.0, 1 - abs(pixel + 0.5 - centre) / max(1.0, step))
            * max(0.0, min(pixel + 1, high) - max(pixel, low))
            for pixel in range(pixels)
        ]
        rows.append([weight / sum(weights) for weight in weights])
    return torch.tensor(rows, dtype=torch.float64)


def test_only_crop_resize_is_exact() -> None:
    measured = measure(4, 64, 16, SpeedSettings(device="cpu", repeats=1))
    assert measured["errors"][OURS]["max"] <= STEP
    for name in (GRID, ROI):
        assert measured["errors"][name]["mean"] > STEP
        assert measured["errors"][name]["max"] > measured["errors"][name]["mean"]
    assert ONE_BY_ONE not in measured["errors"]
    assert set(measured["seconds"]) >= {OURS, FRACTIONAL, SHARED, ONE_BY_ONE, GRID, ROI}


def test_fractional_boxes_match_definition() -> None:
    images = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    boxes = sample_boxes(3, 64, 16, CPU).sampled
    edges = cxcywh_to_xyxy(boxes) * 64
    exact = reference_crop(images, edges, 16)
    assert (crop_resize(images, boxes, 16) - exact).abs().max() <= STEP
    for other in (grid_sampled(images, boxes, 16), roi_aligned(images, edges, 16)):
        assert (other - exact).abs().mean() > STEP


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
