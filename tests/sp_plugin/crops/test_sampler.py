"""CropSampler: distributions, the overlap limit, and settings that move during training."""

from __future__ import annotations

import math
import random

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sp_plugin.crops.boxes import box_area, cxcywh_to_xyxy, paired_iou
from sp_plugin.crops.sampler import CropSampler, lerp

_seeds = st.integers(0, 2**32 - 1)


def _range(low: float, high: float):
    ends = st.tuples(st.floats(low, high), st.floats(low, high))
    return ends.map(lambda pair: (min(pair), max(pair)))


def _draw(sampler: CropSampler, n: int, seed: int = 0, progress=1.0):
    return tuple(sampler(n, torch.Generator().manual_seed(seed), progress))


@given(_seeds, _range(0.01, 1), _range(0.2, 5), _range(0.1, 1), st.floats(0, 1))
def test_crops_lie_inside_the_frame(seed, areas, ratio, window, max_iou):
    pair = torch.cat(_draw(CropSampler(areas, ratio, window, max_iou), 64, seed))
    edges = cxcywh_to_xyxy(pair)
    assert pair.isfinite().all() and (pair[:, 2:] > 0).all()
    assert (edges >= -1e-6).all() and (edges <= 1 + 1e-6).all()


@given(_seeds, _range(0.01, 1), _range(0.2, 5), st.floats(0.1, 1))
def test_both_crops_fit_one_window(seed, areas, ratio, side):
    a, b = _draw(CropSampler(areas, ratio, (side, side), 1.0), 64, seed)
    edges_a, edges_b = cxcywh_to_xyxy(a), cxcywh_to_xyxy(b)
    low = torch.minimum(edges_a[:, :2], edges_b[:, :2])
    high = torch.maximum(edges_a[:, 2:], edges_b[:, 2:])
    assert (high - low <= side + 1e-6).all()


def test_window_is_uniformly_distributed():
    # A crop that fills its window is the window.
    windows, _ = _draw(CropSampler((1, 1), (1, 1), (0.5, 1.0), 1.0), 20000)
    side = windows[:, 2]
    assert torch.equal(side, windows[:, 3])
    assert side.min() >= 0.5 - 1e-6 and side.max() <= 1 + 1e-6
    corner = ((windows[:, :2] - side[:, None] / 2) / (1 - side[:, None]).clamp_min(1e-3)).T
    for uniform in ((side - 0.5) * 2, *corner):
        deciles = torch.quantile(uniform, torch.linspace(0.1, 0.9, 9))
        torch.testing.assert_close(deciles, torch.linspace(0.1, 0.9, 9), atol=0.02, rtol=0)


@given(_seeds, _range(0.01, 1), _range(0.2, 5), st.floats(0.3, 1))
def test_areas_stay_in_crop_scale(seed, areas, ratio, side):
    pair = torch.cat(_draw(CropSampler(areas, ratio, (side, side), 1.0), 64, seed))
    share = box_area(pair) / side**2
    assert (share >= areas[0] * (1 - 1e-4)).all() and (share <= areas[1] * (1 + 1e-4)).all()


@given(_seeds, _range(0.01, 1), _range(0.2, 5))
def test_ratios_stay_in_crop_ratio(seed, areas, ratio):
    pair = torch.cat(_draw(CropSampler(areas, ratio, (1, 1), 1.0), 64, seed))
    aspect = pair[:, 2] / pair[:, 3]
    # A crop of area A inside a unit window has an aspect ratio in [A, 1 / A].
    low = torch.minimum(torch.tensor(ratio[0]), 1 / box_area(pair))
    high = torch.maximum(torch.tensor(ratio[1]), box_area(pair))
    assert (aspect >= low * (1 - 1e-4)).all() and (aspect <= high * (1 + 1e-4)).all()


def test_areas_and_aspects_are_log_uniform():
    pair = torch.cat(_draw(CropSampler((0.05, 0.3), (0.5, 2), (1, 1), 1.0), 20000))
    log_area = box_area(pair).log()
    log_ratio = (pair[:, 2] / pair[:, 3]).log()
    for values, (low, high) in ((log_area, (0.05, 0.3)), (log_ratio, (0.5, 2))):
        uniform = (values - math.log(low)) / math.log(high / low)
        deciles = torch.quantile(uniform, torch.linspace(0.1, 0.9, 9))
        torch.testing.assert_close(deciles, torch.linspace(0.1, 0.9, 9), atol=0.02, rtol=0)


@given(_seeds, _range(0.02, 0.1), st.floats(0.0, 0.3))
def test_overlap_stays_below_its_limit(seed, areas, max_iou):
    a, b = _draw(CropSampler(areas, window=(0.6, 1.0), max_iou=max_iou, tries=40), 64, seed)
    assert (paired_iou(a, b) <= max_iou + 1e-4).all()


@pytest.mark.parametrize("tries", [1, 2, 4])
def test_least_overlap_is_kept_if_none_valid(tries):
    # The least of k draws exceeds the median of one draw with probability 2^-k.
    crops = {"crop_scale": (0.6, 0.6), "window": (1, 1), "max_iou": 0.0}
    single = paired_iou(*_draw(CropSampler(**crops, tries=1), 20000, seed=1))
    kept = paired_iou(*_draw(CropSampler(**crops, tries=tries), 20000, seed=2))
    assert single.min() > 0  # all pairs of crops of this area overlap
    chance = 2.0**-tries
    share = (kept > single.median()).float().mean()
    assert abs(share - chance) < 5 * math.sqrt(2 * chance / 20000)


def test_first_valid_try_is_used():
    # Without a limit the first try is always valid: the overlap is that of a single draw.
    crops = {"crop_scale": (0.3, 0.3), "window": (1, 1), "max_iou": 1.0}
    single = paired_iou(*_draw(CropSampler(**crops, tries=1), 20000, seed=1))
    several = paired_iou(*_draw(CropSampler(**crops, tries=10), 20000, seed=2))
    assert abs(single.mean() - several.mean()) < 0.01


def test_impossible_limit_still_gives_boxes():
    a, b = _draw(CropSampler((0.9, 0.9), max_iou=0.0), 256)
    assert torch.cat([a, b]).isfinite().all()
    assert (paired_iou(a, b) > 0).all()


@given(_seeds)
def test_boxes_depend_on_seed(seed):
    first, again = _draw(CropSampler(), 16, seed), _draw(CropSampler(), 16, seed)
    assert torch.equal(torch.stack(first), torch.stack(again))
    other = _draw(CropSampler(), 16, seed + 1)
    assert not torch.isclose(torch.stack(first), torch.stack(other)).all(dim=-1).any()


def test_global_rng_is_unchanged():
    before, python_before = torch.get_rng_state(), random.getstate()
    _draw(CropSampler(), 64)
    assert torch.equal(before, torch.get_rng_state()) and python_before == random.getstate()


def test_boxes_are_float32_on_the_cpu():
    torch.set_default_dtype(torch.float64)
    try:
        boxes = torch.stack(_draw(CropSampler(), 8))
    finally:
        torch.set_default_dtype(torch.float32)
    with torch.device("meta"):
        on_meta = torch.stack(_draw(CropSampler(), 8))
    assert boxes.dtype == torch.float32
    assert on_meta.device.type == "cpu"
    torch.testing.assert_close(boxes, torch.stack(_draw(CropSampler(), 8)))


def test_progress_interpolates_crop_scale():
    sampler = CropSampler(((0.4, 0.5), (0.05, 0.1)), window=(1, 1), max_iou=1.0)
    for progress, low, high in ((0.0, 0.4, 0.5), (0.5, 0.225, 0.3), (1.0, 0.05, 0.1)):
        areas = box_area(torch.cat(_draw(sampler, 500, progress=progress)))
        assert low - 1e-4 <= areas.min() < low + 0.01 and high - 0.01 < areas.max() <= high + 1e-4


def test_progress_interpolates_max_iou():
    sampler = CropSampler((0.1, 0.3), window=(1, 1), max_iou=(0.6, 0.0), tries=60)
    for progress, limit in ((0.0, 0.6), (0.5, 0.3), (1.0, 0.0)):
        overlap = paired_iou(*_draw(sampler, 2000, progress=progress))
        assert overlap.max() <= limit + 1e-3
        assert overlap.max() >= limit - 0.05


def test_progress_may_differ_per_pair():
    sampler = CropSampler(((0.4, 0.4), (0.1, 0.1)), window=(1, 1), max_iou=1.0)
    a, b = _draw(sampler, 5, progress=torch.linspace(0, 1, 5))
    expected = torch.tensor([0.4, 0.325, 0.25, 0.175, 0.1])
    torch.testing.assert_close(box_area(a), expected, atol=1e-4, rtol=0)
    torch.testing.assert_close(box_area(b), expected, atol=1e-4, rtol=0)


@given(st.floats(-9, 9), st.floats(-9, 9), st.floats(0, 1))
def test_lerp_is_linear(first, last, progress):
    assert lerp(first, last, 0.0) == first
    assert math.isclose(lerp(first, last, 1.0), last, abs_tol=1e-9)
    expected = (1 - progress) * first + progress * last
    assert math.isclose(lerp(first, last, progress), expected, abs_tol=1e-9)
