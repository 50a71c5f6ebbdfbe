"""Boxes: conversions, area, overlap, flips and nested frames."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from sp_plugin.crops.boxes import (
    FULL_IMAGE,
    box_area,
    cxcywh_to_xyxy,
    paired_iou,
    to_parent_frame,
    xyxy_to_cxcywh,
)

_seeds = st.integers(0, 2**32 - 1)


def _boxes(seed: int, n: int = 32) -> torch.Tensor:
    """Boxes (n, 4) inside the frame, with sides between 0.01 and 1."""
    generator = torch.Generator().manual_seed(seed)
    side = 0.01 + 0.99 * torch.rand(n, 2, generator=generator)
    centre = side / 2 + (1 - side) * torch.rand(n, 2, generator=generator)
    return torch.cat([centre, side], dim=1)


def _pixels(box: torch.Tensor) -> torch.Tensor:
    """Mask of the box on a grid of 200 x 200 pixels."""
    left, top, right, bottom = cxcywh_to_xyxy(box).tolist()
    centres = (torch.arange(200) + 0.5) / 200
    columns = (centres > left) & (centres < right)
    rows = (centres > top) & (centres < bottom)
    return rows[:, None] & columns[None, :]


@given(_seeds)
def test_xyxy_round_trip(seed):
    boxes = _boxes(seed)
    torch.testing.assert_close(xyxy_to_cxcywh(cxcywh_to_xyxy(boxes)), boxes, atol=1e-6, rtol=0)


@given(_seeds)
def test_xyxy_are_the_box_edges(seed):
    boxes = _boxes(seed)
    left, top, right, bottom = cxcywh_to_xyxy(boxes).unbind(-1)
    torch.testing.assert_close(right - left, boxes[:, 2], atol=1e-6, rtol=0)
    torch.testing.assert_close(bottom - top, boxes[:, 3], atol=1e-6, rtol=0)
    torch.testing.assert_close((left + right) / 2, boxes[:, 0], atol=1e-6, rtol=0)
    torch.testing.assert_close((top + bottom) / 2, boxes[:, 1], atol=1e-6, rtol=0)


@given(_seeds)
def test_area_is_share_of_frame_pixels(seed):
    box = _boxes(seed, 1)[0]
    assert abs(_pixels(box).float().mean() - box_area(box)) < 0.02


@given(_seeds)
def test_iou_is_symmetric_in_unit_interval(seed):
    a, b = _boxes(seed), _boxes(seed + 1)
    overlap = paired_iou(a, b)
    assert ((overlap >= 0) & (overlap <= 1 + 1e-4)).all()
    torch.testing.assert_close(overlap, paired_iou(b, a), atol=1e-6, rtol=0)
    torch.testing.assert_close(paired_iou(a, a), torch.ones(len(a)), atol=1e-4, rtol=0)


@given(_seeds)
def test_iou_matches_pixel_count(seed):
    a, b = _boxes(seed, 1)[0], _boxes(seed + 1, 1)[0]
    shared = (_pixels(a) & _pixels(b)).sum()
    either = (_pixels(a) | _pixels(b)).sum().clamp_min(1)
    assert abs(shared / either - paired_iou(a, b)) < 0.03


def test_iou_of_disjoint_boxes_is_zero():
    a = torch.tensor([0.2, 0.5, 0.2, 0.4])
    disjoint = torch.tensor([[0.4, 0.5, 0.2, 0.4], [0.8, 0.5, 0.2, 0.4], [0.8, 0.1, 0.2, 0.2]])
    assert paired_iou(a.expand(3, 4), disjoint).abs().max() < 1e-6


@given(_seeds)
def test_to_parent_frame_composes(seed):
    inner, middle, outer = _boxes(seed), _boxes(seed + 1), _boxes(seed + 2)
    boxes_first = to_parent_frame(to_parent_frame(inner, middle), outer)
    frames_first = to_parent_frame(inner, to_parent_frame(middle, outer))
    torch.testing.assert_close(boxes_first, frames_first, atol=1e-6, rtol=0)


@given(_seeds)
def test_full_image_is_identity_frame(seed):
    boxes = _boxes(seed)
    full = torch.tensor(FULL_IMAGE).expand_as(boxes)
    torch.testing.assert_close(to_parent_frame(full, boxes), boxes, atol=1e-6, rtol=0)
    torch.testing.assert_close(to_parent_frame(boxes, full), boxes, atol=1e-6, rtol=0)


@given(_seeds)
def test_to_parent_frame_keeps_iou(seed):
    a, b, window = _boxes(seed), _boxes(seed + 1), _boxes(seed + 2)
    edges = cxcywh_to_xyxy(to_parent_frame(a, window))
    assert (edges[:, :2] >= cxcywh_to_xyxy(window)[:, :2] - 1e-6).all()
    assert (edges[:, 2:] <= cxcywh_to_xyxy(window)[:, 2:] + 1e-6).all()
    torch.testing.assert_close(
        paired_iou(to_parent_frame(a, window), to_parent_frame(b, window)),
        paired_iou(a, b),
        atol=2e-3,
        rtol=0,
    )


@given(_seeds)
def test_functions_take_any_leading_shape(seed):
    a, b = _boxes(seed).view(2, 4, 4, 4), _boxes(seed + 1).view(2, 4, 4, 4)
    for unary in (box_area, cxcywh_to_xyxy, xyxy_to_cxcywh):
        assert torch.equal(unary(a).flatten(0, 2), unary(a.flatten(0, 2)))
    for binary in (paired_iou, to_parent_frame):
        assert torch.equal(binary(a, b).flatten(0, 2), binary(a.flatten(0, 2), b.flatten(0, 2)))
