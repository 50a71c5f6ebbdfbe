"""Target encodings: their invariances, their inverse, and their standard deviations."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision.models.detection._utils import BoxCoder

from sp_plugin.crops.boxes import cxcywh_to_xyxy, to_parent_frame
from sp_plugin.crops.sampler import CropSampler
from sp_plugin.objective.head import SPHead
from sp_plugin.objective.loss import SPLoss
from sp_plugin.objective.pair_loss import compute_pair_loss
from sp_plugin.objective.pairs import sample_pairs
from sp_plugin.objective.targets import (
    TARGET_ENCODINGS,
    TargetEncoder,
    TargetEncoding,
    apply_flips,
    unnormalized_targets,
)

_seeds = st.integers(0, 2**32 - 1)
_TARGETS = {encoding: TargetEncoder(CropSampler(), encoding) for encoding in TARGET_ENCODINGS}
each_encoding = pytest.mark.parametrize("encoding", list(TARGET_ENCODINGS))


def _pairs(seed: int, n: int = 32, **settings):
    return CropSampler(**settings)(n, torch.Generator().manual_seed(seed))


def _close(one, other):
    torch.testing.assert_close(one, other, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("encoding", ["symmetric", "image"])
@given(seed=_seeds)
def test_antisymmetric_encodings_flip_sign(encoding, seed):
    assert TARGET_ENCODINGS[encoding].antisymmetric
    a, b = _pairs(seed)
    _close(unnormalized_targets(b, a, encoding), -unnormalized_targets(a, b, encoding))


@given(_seeds)
def test_anchor_is_not_antisymmetric(seed):
    assert not TARGET_ENCODINGS["anchor"].antisymmetric
    a, b = _pairs(seed)
    forward, backward = (unnormalized_targets(*pair, "anchor") for pair in ((a, b), (b, a)))
    assert (forward + backward)[:, :2].abs().max() > 0.01
    _close(forward[:, 2], -backward[:, 2])


@pytest.mark.parametrize("encoding", ["symmetric", "anchor"])
@given(seed=_seeds)
def test_encodings_ignore_the_parent_frame(encoding, seed):
    a, b = _pairs(seed)
    frame = _pairs(seed + 1)[0]
    in_parent = unnormalized_targets(to_parent_frame(a, frame), to_parent_frame(b, frame), encoding)
    expected = unnormalized_targets(a, b, encoding)
    torch.testing.assert_close(in_parent, expected, atol=1e-3, rtol=1e-3)


@given(_seeds)
def test_image_encoding_scales_with_zoom(seed):
    a, b = _pairs(seed)
    raw = unnormalized_targets(a, b, "image")
    half = torch.tensor([0.6, 0.3, 0.5, 0.5])
    zoomed = unnormalized_targets(to_parent_frame(a, half), to_parent_frame(b, half), "image")
    _close(zoomed, raw * torch.tensor([0.5, 0.5, 1.0]))
    shift = torch.tensor([0.1, -0.2, 0.0, 0.0])
    _close(unnormalized_targets(a + shift, b + shift, "image"), raw)


@given(_seeds)
def test_image_is_additive(seed):
    (a, b), (c, _) = _pairs(seed), _pairs(seed + 1)
    via_b = unnormalized_targets(a, b, "image") + unnormalized_targets(b, c, "image")
    _close(unnormalized_targets(a, c, "image"), via_b)


@given(_seeds)
def test_anchor_encoding_matches_r_cnn(seed):
    a, b = _pairs(seed)
    # BoxCoder takes pixels.
    (code,) = BoxCoder(weights=(1, 1, 1, 1)).encode(
        [cxcywh_to_xyxy(b) * 1000], [cxcywh_to_xyxy(a) * 1000]
    )
    raw = unnormalized_targets(a, b, "anchor")
    torch.testing.assert_close(raw[:, :2], code[:, :2], atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(raw[:, 2], code[:, 2:].mean(dim=1), atol=1e-4, rtol=1e-4)


@each_encoding
@given(seed=_seeds)
def test_decode_inverts_encode(encoding, seed):
    a, b = _pairs(seed, crop_ratio=(1.3, 1.3), crop_scale=(0.05, 0.3))
    targets = _TARGETS[encoding]
    torch.testing.assert_close(targets.decode(targets.encode(a, b), a), b, atol=1e-4, rtol=1e-4)


@each_encoding
@given(seed=_seeds)
def test_decoded_box_encodes_to_its_target(encoding, seed):
    a, b = _pairs(seed)  # of any aspect ratio
    targets = _TARGETS[encoding]
    encoded = targets.encode(a, b)
    decoded = targets.decode(encoded, a)
    torch.testing.assert_close(targets.encode(a, decoded), encoded, atol=1e-3, rtol=1e-3)
    _close(decoded[:, 2] / decoded[:, 3], a[:, 2] / a[:, 3])


@each_encoding
@given(seed=_seeds)
def test_hflip_of_the_frame_negates_dx_only(encoding, seed):
    a, b = _pairs(seed)
    mirrored = (torch.cat([1 - boxes[:, :1], boxes[:, 1:]], dim=1) for boxes in (a, b))
    flipped = unnormalized_targets(*mirrored, encoding)
    _close(flipped, unnormalized_targets(a, b, encoding) * torch.tensor([-1.0, 1.0, 1.0]))


SAMPLERS = {
    "default": {},
    "full frame": {"window": (1, 1), "max_iou": 1.0},
    "small images": {"crop_scale": (0.15, 0.32), "window": (1, 1)},
    "elongated": {"crop_ratio": (0.5, 3.0), "max_iou": 0.5},
}


@each_encoding
@pytest.mark.parametrize("settings", SAMPLERS.values(), ids=SAMPLERS)
def test_targets_have_unit_variance(encoding, settings):
    targets = TargetEncoder(CropSampler(**settings), encoding)
    encoded = targets.encode(*_pairs(7, 40_000, **settings))
    # Both standard deviations are of some 3e4 samples, with an error of a few per mille each.
    torch.testing.assert_close(encoded.std(dim=0), torch.ones(3), atol=0.03, rtol=0)
    # So an MSE of 1 is chance, in every encoding.
    assert abs(encoded.square().mean() - 1) < 0.04


@pytest.mark.parametrize("crop_scale", [(0.05, 0.32), (0.02, 0.2), (0.15, 0.32)])
def test_scale_std_matches_closed_form(crop_scale):
    sampler = CropSampler(crop_scale, max_iou=1.0)
    expected = math.log(crop_scale[1] / crop_scale[0]) / math.sqrt(24)
    for encoding in TARGET_ENCODINGS:
        assert math.isclose(TargetEncoder(sampler, encoding).std[2], expected, rel_tol=0.015)


def test_std_covers_a_moving_sampler():
    moving = CropSampler(((0.3, 0.32), (0.05, 0.06)), max_iou=1.0)
    ends = [CropSampler(crop_scale, max_iou=1.0) for crop_scale in moving.crop_scale]
    first, last = (TargetEncoder(sampler).std[0] for sampler in ends)
    assert 1.1 * first < TargetEncoder(moving).std[0] < 0.9 * last


def test_std_is_deterministic():
    before = torch.get_rng_state()
    stds = [TargetEncoder(CropSampler()).std for _ in range(2)]
    assert torch.equal(*stds)
    assert torch.equal(before, torch.get_rng_state())


def test_equal_sizes_give_finite_targets():
    targets = TargetEncoder(CropSampler((0.1, 0.1)))
    encoded = targets.encode(*_pairs(0, crop_scale=(0.1, 0.1)))
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
    assert torch.equal(other.std, targets.std)
    assert not list(targets.parameters())


def test_unknown_encoding_is_refused():
    message = r"^target_encoding: got 'polar', takes one of symmetric, anchor"
    with pytest.raises(ValueError, match=message):
        TargetEncoder(CropSampler(), "polar")


def _b_flips(flips_a, flips_b):
    return flips_b, torch.ones_like(flips_b, dtype=torch.bool)


@pytest.fixture
def fourth_encoding(monkeypatch) -> str:
    """An encoding that is registered and nothing else: the offset in units of b's height."""
    encoding = TargetEncoding(
        offset_unit=lambda sides_a, sides_b: sides_b[..., 1:].expand_as(sides_b),
        antisymmetric=False,
        flip_rule=_b_flips,
        unit_label="heights of b",
    )
    monkeypatch.setitem(TARGET_ENCODINGS, "height", encoding)
    return "height"


def test_registered_encoding_is_encoded(fourth_encoding):
    a, b = torch.tensor([[0.2, 0.3, 0.1, 0.2]]), torch.tensor([[0.5, 0.7, 0.4, 0.1]])
    targets = TargetEncoder(CropSampler(), fourth_encoding)
    expected = torch.tensor([[0.3 / 0.1, 0.4 / 0.1, math.log(0.04 / 0.02) / 2]])
    _close(targets.encode(a, b) * targets.std, expected)
    sampled = targets.encode(*_pairs(7, 40_000))
    torch.testing.assert_close(sampled.std(dim=0), torch.ones(3), atol=0.03, rtol=0)


def test_registered_encoding_is_decoded(fourth_encoding):
    targets = TargetEncoder(CropSampler(), fourth_encoding)
    a, b = _pairs(3, 1000, crop_ratio=(1.3, 1.3), crop_scale=(0.05, 0.3))
    torch.testing.assert_close(targets.decode(targets.encode(a, b), a), b, atol=1e-4, rtol=1e-4)


def test_registered_flip_rule_is_applied(fourth_encoding):
    target = torch.tensor([[2.0, 3.0, 4.0]])
    flips = torch.tensor([[[-1.0, 1.0]], [[1.0, -1.0]]])
    flipped, mask = apply_flips(target, flips, fourth_encoding)
    assert flipped.tolist() == [[2.0, -3.0, 4.0]] and mask.all()
    # The registered rules of the others.
    assert apply_flips(target, flips, "anchor")[0].tolist() == [[-2.0, 3.0, 4.0]]
    assert apply_flips(target, flips, "symmetric")[1].tolist() == [[0.0, 0.0, 1.0]]


def test_registered_encoding_trains_a_head(fourth_encoding):
    targets, head = TargetEncoder(CropSampler(), fourth_encoding), SPHead(8, 16, "plain")
    boxes = torch.stack(list(_pairs(0)))
    features, flips = torch.randn(2, 32, 8), torch.ones(2, 32, 2)
    out = compute_pair_loss(features, boxes, sample_pairs(2), head, targets, SPLoss(), flips)
    out.loss.backward()
    assert torch.equal(out.target, targets.encode(*boxes))
    assert out.loss > 0 and head.mlp[0].weight.grad.any()
