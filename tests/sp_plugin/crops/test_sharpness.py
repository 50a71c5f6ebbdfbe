"""Matched sharpness: the blur of a crop must not reveal its scale."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from sp_plugin import SpatialPrediction, SPConfig
from sp_plugin.crops.resize import matched_resolution
from sp_plugin.crops.sampler import rand_cpu


@given(st.integers(0, 2**32 - 1), st.integers(2, 8), st.integers(4, 96))
def test_matched_resolution_is_in_range(seed, crops, size):
    generator = torch.Generator().manual_seed(seed)
    sides = 1 + 100 * torch.rand(crops, 64, 2, generator=generator)
    grid = matched_resolution(sides, size, rand_cpu(64, 1, generator=generator))
    coarsest = sides.amin(dim=0).clamp(max=size)
    assert torch.equal(grid, grid.round()) and grid.min() >= 1
    assert (grid <= coarsest).all() and (grid >= (coarsest / 2).floor()).all()


def test_equal_sharpness_hides_the_scale():
    # 1/f noise looks the same at every scale: crops differ in sharpness only.
    frequency = torch.fft.fftfreq(64)
    distance = (frequency[:, None] ** 2 + frequency**2).sqrt().clamp_min(1 / 64)
    images = torch.fft.ifft2(torch.fft.fft2(torch.randn(512, 1, 64, 64)) / distance).real
    correlations = {}
    for sharpness in ("equal", "native"):
        config = SPConfig(
            sharpness=sharpness, crop_size=32, crop_scale=(0.02, 0.5), max_iou=1.0, num_crops=2
        )
        sp = SpatialPrediction(8, config)
        boxes, crops = sp.sample_crops(images, torch.Generator().manual_seed(0))
        detail = (crops[..., 1:] - crops[..., :-1]).std(dim=(1, 2, 3)).log()
        a, b = detail.chunk(2)
        sigma = sp.targets.encode(*boxes)[:, 2]
        correlations[sharpness] = torch.corrcoef(torch.stack([b - a, sigma]))[0, 1].abs()
    assert correlations["native"] > 0.9 and correlations["equal"] < 0.2


def test_axes_keep_their_own_resolution():
    # Wide crops, of about 40 x 5 pixels, with fine detail from left to right only.
    sp = SpatialPrediction(8, SPConfig(crop_size=32, crop_scale=(0.05, 0.05), crop_ratio=(8, 8)))
    _, crops = sp.sample_crops(torch.randn(64, 1, 64, 64), torch.Generator().manual_seed(0))
    detail_x = (crops[..., 1:] - crops[..., :-1]).std()
    detail_y = (crops[..., 1:, :] - crops[..., :-1, :]).std()
    assert detail_x > 2 * detail_y
