from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision.models.detection._utils import BoxCoder

from sp_plugin.crops.boxes import cxcywh_to_xyxy, hflip_boxes, to_parent_frame
from sp_plugin.crops.sampler import CropSampler
from sp_plugin.objective.targets import (
    ANTISYMMETRIC,
    ENCODINGS,
    TargetEncoder,
    unnormalized_targets,
)

_seeds = st.integers(0, 2**32 - 1)
_TARGETS = {encoding: TargetEncoder(CropSampler(), encoding) for encoding in ENCODINGS}
each_encoding = pytest.mark.parametrize("encoding", ENCODINGS)


def _pairs(seed: int, n: int = 32, **settings):
    return CropSampler(**settings)(n, torch.Generator().manual_seed(seed))


def _close(one, other):
    torch.testing.assert_close(one, other, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("encoding", ANTISYMMETRIC)
@given(seed=_seeds)
def test_antisymmetric_encodings_flip_sign(encoding, seed):
    a, b = _pairs(seed)
    _close(unnormalized_targets(b, a, encoding), -unnormalized_targets(a, b, encoding))


@given(_seeds)
def test_anchor_is_not_antisymmetric(seed):
    a, b = _pairs(seed)
    forth, back = unnormalized_targets(a, b, "anchor"), unnormalized_targets(b, a, "anchor")
    assert (forth + back)[:, :2].abs().max() > 0.01
    _close(forth[:, 2], -back[:, 2])


@pytest.mark.parametrize("encoding", ["symmetric", "anchor"])
@given(seed=_seeds)
def test_encodings_ignore_the_parent_frame(encoding, seed):
    a, b = _pairs(seed)
    frame = _pairs(seed + 1)[0]
    placed = unnormalized_targets(to_parent_frame(a, frame), to_parent_frame(b, frame), encoding)
    torch.testing.assert_close(placed, unnormalized_targets(a, b, encoding), atol=1e-3, rtol=1e-3)


@given(_seeds)
def test_image_encoding_scales_with_zoom(seed):
    a, b = _pairs(seed)
    raw = unnormalized_targets(a, b, "image")
    half = torch.tensor([0.6, 0.3, 0.5, 0.5])
    zoomed = unnormalized_targets(to_parent_frame(a, half), to_parent_frame(b, half), "image")
    _close(zoomed, raw * torch.tensor([0.5, 0.5, 1.0]))
    aside = torch.tensor([0.1, -0.2, 0.0, 0.0])
    _close(unnormalized_targets(a + aside, b + aside, "image"), raw)


@given(_seeds)
def test_image_is_additive(seed):
    (a, b), (c, _) = _pairs(seed), _pairs(seed + 1)
    by_way_of_b = unnormalized_targets(a, b, "image") + unnormalized_targets(b, c, "image")
    _close(unnormalized_targets(a, c, "image"), by_way_of_b)


@given(_seeds)
def test_anchor_encoding_matches_r_cnn(seed):
    a, b = _pairs(seed)
    # Scaled up: BoxCoder thinks in pixels.
    (code,) = BoxCoder(weights=(1, 1, 1, 1)).encode(
        [cxcywh_to_xyxy(b) * 1000], [cxcywh_to_xyxy(a) * 1000]
    )
    raw = unnormalized_targets(a, b, "anchor")
    torch.testing.assert_close(raw[:, :2], code[:, :2], atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(raw[:, 2], code[:, 2:].mean(dim=1), atol=1e-4, rtol=1e-4)


@each_encoding
@given(seed=_seeds)
def test_decode_inverts_encode(encoding, seed):
    a, b = _pairs(seed, ratio=(1.3, 1.3), area=(0.05, 0.3))
    targets = _TARGETS[encoding]
    torch.testing.assert_close(targets.decode(targets.encode(a, b), a), b, atol=1e-4, rtol=1e-4)


@each_encoding
@given(seed=_seeds)
def test_decoded_box_encodes_to_its_target(encoding, seed):
    a, b = _pairs(seed)  # of any aspect
    targets = _TARGETS[encoding]
    told = targets.encode(a, b)
    decoded = targets.decode(told, a)
    torch.testing.assert_close(targets.encode(a, decoded), told, atol=1e-3, rtol=1e-3)
    _close(decoded[:, 2] / decoded[:, 3], a[:, 2] / a[:, 3])


@each_encoding
@given(seed=_seeds)
def test_hflip_of_the_frame_negates_dx_only(encoding, seed):
    a, b = _pairs(seed)
    mirrored = unnormalized_targets(hflip_boxes(a), hflip_boxes(b), encoding)
    _close(mirrored, unnormalized_targets(a, b, encoding) * torch.tensor([-1.0, 1.0, 1.0]))


SAMPLERS = {
    "default": {},
    "whole frame": {"window": (1, 1), "max_iou": 1.0},
    "small images": {"crop_scale": (0.15, 0.32), "window": (1, 1)},
    "elongated": {"crop_ratio": (0.5, 3.0), "max_iou": 0.5},
}


@each_encoding
@pytest.mark.parametrize("settings", SAMPLERS.values(), ids=SAMPLERS)
def test_targets_have_unit_variance(encoding, settings):
    targets = TargetEncoder(CropSampler(**settings), encoding)
    drawn = targets.encode(*_pairs(7, 40_000, **settings))
    # The constants and the check are each a draw of some 3e4: a few per mille each.
    torch.testing.assert_close(drawn.std(dim=0), torch.ones(3), atol=0.03, rtol=0)
    # So an MSE of 1 is chance, in every encoding.
    assert abs(drawn.square().mean() - 1) < 0.04


@pytest.mark.parametrize("area", [(0.05, 0.32), (0.02, 0.2), (0.15, 0.32)])
def test_scale_std_matches_closed_form(area):
    sampler = CropSampler(area, max_iou=1.0)
    closed = math.log(area[1] / area[0]) / math.sqrt(24)
    for encoding in ENCODINGS:
        assert math.isclose(TargetEncoder(sampler, encoding).scale[2], closed, rel_tol=0.015)


def test_std_covers_a_moving_sampler():
    moving = CropSampler(((0.3, 0.32), (0.05, 0.06)), max_iou=1.0)
    ends = [CropSampler(area, max_iou=1.0) for area in moving.area]
    first, last = (TargetEncoder(sampler).scale[0] for sampler in ends)
    assert 1.1 * first < TargetEncoder(moving).scale[0] < 0.9 * last


def test_std_is_deterministic():
    before = torch.get_rng_state()
    scales = [TargetEncoder(CropSampler()).scale for _ in range(2)]
    assert torch.equal(*scales)
    assert torch.equal(before, torch.get_rng_state())


def test_equal_sizes_give_finite_targets():
    targets = TargetEncoder(CropSampler((0.1, 0.1)))
    encoded = targets.encode(*_pairs(0, area=(0.1, 0.1)))
    assert targets.std[2] == 1
    assert encoded.isfinite().all() and encoded[:, 2].abs().max() < 1e-4


def test_targets_are_never_clipped():
    a = torch.tensor([0.01, 0.01, 0.02, 0.02])
    b = torch.tensor([0.97, 0.01, 0.04, 0.02])
    targets = TargetEncoder(CropSampler())
    expected = torch.tensor([0.96 / math.sqrt(0.02 * 0.04), 0.0, math.log(2) / 2])
    torch.testing.assert_close(targets.encode(a, b) * targets.std, expected, atol=1e-3, rtol=1e-4)


@each_encoding
def test_std_is_saved_in_state_dict(encoding):
    targets = TargetEncoder(CropSampler(), encoding)
    other = TargetEncoder(CropSampler((0.01, 0.02)), encoding)
    other.load_state_dict(targets.state_dict())
    assert torch.equal(other.scale, targets.std)
    assert not list(targets.parameters())


def test_unknown_encoding_is_refused():
    with pytest.raises(ValueError, match=r"^encoding: got 'polar', takes one of symmetric, anchor"):
        TargetEncoder(CropSampler(), "polar")
