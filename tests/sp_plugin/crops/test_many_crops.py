"""More than two crops of an image: their boxes, and the pairs of them that are sampled."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from sp_plugin.crops.boxes import box_area, cxcywh_to_xyxy, paired_iou
from sp_plugin.crops.sampler import CropSampler
from sp_plugin.objective.pairs import num_all_pairs, sample_pairs
from sp_plugin.objective.targets import TARGET_ENCODINGS, TargetEncoder

_seeds = st.integers(0, 2**32 - 1)
_counts = st.integers(2, 8)


def _draw(sampler: CropSampler, n: int = 64, seed: int = 0) -> Tensor:
    return sampler(n, torch.Generator().manual_seed(seed))


def _pairs(boxes: Tensor) -> Tensor:
    """(2, P, n, 4), all pairs of the crops of each image."""
    return boxes[sample_pairs(len(boxes))]


def test_two_crops_match_version_0_1_0():
    # Published runs depend on these draws; the numbers are those of version 0.1.0.
    expected = {
        CropSampler(): [
            [0.711979329586029, 0.2961021065711975, 0.20286092162132263, 0.21322254836559296],
            [0.686177670955658, 0.5458509922027588, 0.3576809763908386, 0.42148974537849426],
        ],
        CropSampler(((0.4, 0.5), (0.05, 0.3)), max_iou=(1.0, 0.0)): [
            [0.658054769039154, 0.37543174624443054, 0.37688034772872925, 0.39613041281700134],
            [0.6591527462005615, 0.5434819459915161, 0.431927889585495, 0.5089820623397827],
        ],
    }
    for sampler, boxes in expected.items():
        generator = torch.Generator().manual_seed(7)
        sampled = sampler(2, generator, progress=0.5)
        assert sampled.shape == (2, 2, 4)
        assert torch.rand(1, generator=generator).item() == 0.3744962215423584  # the next draw
        torch.testing.assert_close(sampled[:, 0], torch.tensor(boxes), atol=0, rtol=1e-6)


@given(_seeds, _counts, st.floats(0.01, 1), st.floats(0.1, 1), st.floats(0, 1))
def test_all_crops_fit_one_window(seed, crops, least, side, max_iou):
    sampler = CropSampler((least, 1), (0.5, 2), (side, side), max_iou, num_crops=crops)
    boxes = _draw(sampler, seed=seed)
    assert boxes.shape == (crops, 64, 4) and boxes.isfinite().all()
    edges = cxcywh_to_xyxy(boxes)
    assert edges.min() >= -1e-6 and edges.max() <= 1 + 1e-6
    low, high = edges[..., :2].amin(dim=0), edges[..., 2:].amax(dim=0)
    assert (high - low <= side + 1e-6).all()
    share = box_area(boxes) / side**2
    assert (share >= least * (1 - 1e-4)).all() and (share <= 1 + 1e-4).all()


@given(_seeds, _counts, st.floats(0, 0.3))
def test_overlap_limit_holds_for_all_pairs(seed, crops, max_iou):
    sampler = CropSampler((0.005, 0.02), max_iou=max_iou, tries=40, num_crops=crops)
    assert (paired_iou(*_pairs(_draw(sampler, seed=seed))) <= max_iou + 1e-4).all()


@pytest.mark.parametrize("crops", [3, 8])
def test_least_overlap_is_kept_without_room(crops):
    overlaps = []
    for tries in (1, 4, 16):
        sampler = CropSampler((0.4, 0.6), window=(1, 1), max_iou=0.0, tries=tries, num_crops=crops)
        boxes = _draw(sampler, 2000)
        assert boxes.isfinite().all()
        overlaps.append(paired_iou(*_pairs(boxes)).amax(dim=0).mean())
    assert overlaps[0] > 1.05 * overlaps[1] > 1.1 * overlaps[2] > 0


@pytest.mark.parametrize("crops", [3, 8])
@pytest.mark.parametrize("encoding", TARGET_ENCODINGS)
def test_targets_have_unit_std_for_all_pairs(crops, encoding):
    sampler = CropSampler(num_crops=crops)
    targets = TargetEncoder(sampler, encoding).encode(*_pairs(_draw(sampler, 20000, seed=1)))
    std = targets.std(dim=1)
    torch.testing.assert_close(std, torch.ones_like(std), atol=0.03, rtol=0)
    assert targets.mean(dim=1).abs().max() < 0.04


@given(_seeds, st.integers(3, 8))
def test_boxes_depend_on_seed_only(seed, crops):
    before = torch.get_rng_state()
    first, again = (_draw(CropSampler(num_crops=crops), 8, seed) for _ in range(2))
    other = _draw(CropSampler(num_crops=crops), 8, seed + 1)
    assert torch.equal(first, again)
    assert not torch.isclose(first, other).all(dim=-1).any()
    assert torch.equal(before, torch.get_rng_state())


def test_boxes_are_float32_on_the_cpu():
    expected = _draw(CropSampler(num_crops=4))
    torch.set_default_dtype(torch.float64)
    try:
        with torch.device("meta"):
            sampled = _draw(CropSampler(num_crops=4))
    finally:
        torch.set_default_dtype(torch.float32)
    assert torch.equal(sampled, expected)


@given(_seeds, _counts, st.integers(1, 30))
def test_sampled_pairs_are_distinct(seed, crops, num_pairs):
    pairs = sample_pairs(crops, num_pairs, seed)
    a, b = pairs
    assert pairs.shape == (2, min(num_pairs, num_all_pairs(crops)))
    assert (a < b).all() and a.min() >= 0 and b.max() < crops
    assert len(set(map(tuple, pairs.T.tolist()))) == pairs.shape[1]
    assert torch.equal(pairs, sample_pairs(crops, num_pairs, seed))


@given(_seeds, _counts)
def test_all_pairs_ignore_the_seed(seed, crops):
    pairs = sample_pairs(crops)
    assert set(map(tuple, pairs.T.tolist())) == {(a, b) for b in range(crops) for a in range(b)}
    assert torch.equal(sample_pairs(crops, num_all_pairs(crops), seed), pairs)


def test_pairs_are_sampled_uniformly():
    pairs = torch.cat([sample_pairs(4, 2, key) for key in range(3000)], dim=1)
    counts = (pairs[0] * 4 + pairs[1]).bincount()
    assert (counts > 0).sum() == 6
    assert (counts[counts > 0] - 1000).abs().max() < 5 * 1000**0.5
