"""What one crop alone tells of the offset to the other: why there is a window."""

from __future__ import annotations

import math

import pytest
import torch

from sp_plugin.sampling import PairSampler

_N = 60_000


def _one_view_r2(sampler: PairSampler) -> float:
    """R2 of dx from crop a alone, by the best cubic in its box."""
    a, b = sampler(_N, torch.Generator().manual_seed(0))
    a, dx = a.double(), (b[:, 0] - a[:, 0]).double()
    x, y, w, h = ((column - column.mean()) / column.std() for column in a.unbind(1))
    first = torch.stack([torch.ones_like(x), x, y, w, h], dim=1)
    second = (first[:, :, None] * first[:, None, :]).flatten(1)
    third = (second[:, :, None] * first[:, None, :]).flatten(1)
    terms = torch.linalg.qr(third + 0)[0] if False else third
    gram, right = terms.T @ terms, terms.T @ dx
    told = terms @ torch.linalg.lstsq(gram, right, driver="gelsd").solution
    return float(1 - (dx - told).square().sum() / (dx - dx.mean()).square().sum())


@pytest.mark.parametrize(
    ("window", "max_iou"), [((1, 1), 1.0), ((1, 1), 0.1), ((1, 1), 0.0), ((0.5, 1), 1.0), ((0.5, 1), 0.1)]
)
def test_x(window, max_iou):
    print(window, max_iou, _one_view_r2(PairSampler(window=window, max_iou=max_iou)))
    print( _one_view_r2(PairSampler(area=(.15,.32),window=window, max_iou=max_iou)))
