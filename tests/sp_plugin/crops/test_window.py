"""How well one crop alone predicts the offset to the other: the reason for the window."""

from __future__ import annotations

import math

import torch

from sp_plugin.crops.sampler import CropSampler

_N = 60_000


def _pairs(**settings) -> tuple[torch.Tensor, torch.Tensor]:
    return CropSampler(**settings)(_N, torch.Generator().manual_seed(0))


def _one_crop_r2(**settings) -> float:
    """R2 of dx predicted from crop a alone, by the best cubic polynomial of its box."""
    a, b = (boxes.double() for boxes in _pairs(**settings))
    dx = b[:, 0] - a[:, 0]
    first = torch.cat([torch.ones(_N, 1), (a - a.mean(dim=0)) / a.std(dim=0)], dim=1)
    second = (first[:, :, None] * first[:, None, :]).flatten(1)
    third = (second[:, :, None] * first[:, None, :]).flatten(1)
    weights = torch.linalg.lstsq(third.T @ third, third.T @ dx, driver="gelsd").solution
    return float(1 - (dx - third @ weights).square().sum() / (dx - dx.mean()).square().sum())


def test_full_window_offset_follows_one_crop():
    # dx = x_b - x_a, both independent and equally distributed: corr(dx, x_a) = -1 / sqrt 2.
    a, b = _pairs(crop_scale=(1e-5, 1e-4), window=(1, 1), max_iou=1.0)
    # Standard error of a correlation r: (1 - r^2) / sqrt n.
    expected, error = -1 / math.sqrt(2), 0.5 / math.sqrt(_N)
    for axis in (0, 1):
        offset = b[:, axis] - a[:, axis]
        correlation = torch.corrcoef(torch.stack([offset, a[:, axis]]))[0, 1]
        assert abs(correlation - expected) < 5 * error


def test_offsets_of_axes_are_independent():
    a, b = _pairs(crop_scale=(1e-5, 1e-4), window=(1, 1), max_iou=1.0)
    correlation = torch.corrcoef(torch.stack([b[:, 0] - a[:, 0], a[:, 1]]))[0, 1]
    assert abs(correlation) < 5 / math.sqrt(_N)


def test_window_lowers_r2_of_one_crop():
    full_frame = _one_crop_r2(window=(1, 1), max_iou=1.0)
    windowed = _one_crop_r2(window=(0.5, 1), max_iou=1.0)
    assert abs(full_frame - 0.49) < 0.02
    assert abs(windowed - 0.37) < 0.02
    # A limit on the overlap raises it.
    assert abs(_one_crop_r2(window=(1, 1), max_iou=0.1) - 0.65) < 0.02
    assert windowed + 0.1 < _one_crop_r2(window=(0.5, 1), max_iou=0.1) < 0.55
