"""The probe and its controls on features with known content."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import Ridge
from sklearn.metrics import r2_score
from sp_bench.tasks.pair_breakdown import find_subsets, gains_by_subset
from sp_bench.tasks.pair_probe import (
    other_image_partners,
    predict_from_both,
    predict_mlp,
    predict_ridge,
    r2_of_both,
    r2_of_one,
    shuffle_partners,
)
from sp_bench.tasks.pair_sampling import CropFeatures, SampledCrops, sample_crop_groups
from torch import Tensor


def box_features(part: int) -> CropFeatures:
    """Features that hold each crop's centre and log sides, mixed and with a little noise."""
    draws = sample_crop_groups(1500, 3000, 96, 32, part)
    known = torch.cat([draws.boxes[..., :2], draws.boxes[..., 2:].log()], dim=-1)
    generator = torch.Generator().manual_seed(0)
    mixed = known @ torch.randn(4, 12, generator=generator)
    noise = torch.randn(mixed.shape, generator=generator.manual_seed(part))
    return CropFeatures(mixed + 0.001 * noise, draws)


def noise_like(views: Tensor, seed: int) -> Tensor:
    return torch.randn(views.shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def boxes() -> tuple[CropFeatures, CropFeatures]:
    return box_features(0), box_features(1)


def test_box_features_predict_the_targets(boxes):
    both, one = r2_of_both(*boxes), r2_of_one(*boxes)
    assert (both > 0.99).all()
    # In windows of side U[0.5, 1] and with IoU <= 0.1 a view alone predicts 0.48 of the shift.
    assert one[:2].tolist() == pytest.approx([0.48, 0.48], abs=0.05)
    assert 0.2 < one[2] < 0.6


def test_one_view_encoder_has_no_gain(boxes):
    known = [
        replace(part, features=torch.stack([part.features[0], noise_like(part.features[1], seed)]))
        for seed, part in enumerate(boxes)
    ]
    both, one = r2_of_both(*known), r2_of_one(*known)
    assert (one > 0.2).all()
    assert (both - one).abs().max() < 0.01
    # With b instead of a the other probe is the better one.
    mirrored = [replace(part, features=part.features.flip(0)) for part in known]
    torch.testing.assert_close(r2_of_one(*mirrored), one)


def test_joint_features_are_all_gain(boxes):
    """A shared offset hides the position of each view; only their difference has it."""
    hidden = [
        replace(part, features=part.features + 10 * noise_like(part.features[:1], seed))
        for seed, part in enumerate(boxes)
    ]
    assert (r2_of_both(*hidden) > 0.9).all()
    assert (r2_of_one(*hidden).abs() < 0.05).all()


def test_shuffled_partner_equals_one_view(boxes):
    alone, mixed = r2_of_one(*boxes), r2_of_both(*map(shuffle_partners, boxes))
    assert (mixed - alone).abs().max() < 0.05


def test_noise_features_have_r2_near_zero():
    parts = [sample_crop_groups(400, 800, 96, 32, part) for part in (0, 1)]
    fit, score = (
        CropFeatures(noise_like(torch.empty(2, 800, 150), seed), draws)
        for seed, draws in enumerate(parts)
    )
    for score_r2 in (r2_of_both(fit, score), r2_of_one(fit, score)):
        assert score_r2.abs().max() < 0.03


def test_r2_matches_scikit_learn(boxes):
    fit, score = (replace(part, features=part.features.round(decimals=0)) for part in boxes)
    expected = r2_score(score.targets, predict_from_both(fit, score), multioutput="raw_values")
    assert r2_of_both(fit, score).tolist() == pytest.approx(expected.tolist())
    assert (expected < 0.99).all()


def test_probe_is_best_leave_one_out_ridge():
    generator = torch.Generator().manual_seed(0)
    x, w = torch.randn(40, 12, generator=generator), torch.randn(12, 2, generator=generator)
    y = x @ w + torch.tensor([0.5, 20.0]) * torch.randn(40, 2, generator=generator)
    scaled = ((x - x.mean(0)) / x.std(0, correction=0)).double().numpy()
    found = predict_ridge(x, y, x)
    for column in range(2):
        target = y[:, column].double().numpy()
        errors = {}
        for alpha in [10 ** (-1 + step / 2) for step in range(17)]:
            left_out = [
                Ridge(alpha).fit(scaled[kept], target[kept]).predict(scaled[[i]])[0] - target[i]
                for i in range(40)
                for kept in [[j for j in range(40) if j != i]]
            ]
            errors[alpha] = sum(error**2 for error in left_out)
        best = min(errors, key=errors.__getitem__)
        expected = Ridge(best).fit(scaled, target).predict(scaled)
        assert found[:, column].tolist() == pytest.approx(expected.tolist(), abs=1e-6)


@given(st.lists(st.integers(0, 20), min_size=2, max_size=60))
def test_partner_is_from_another_image(images):
    image = torch.tensor(images)
    if 2 * int(image.bincount().max()) > len(image):
        return
    partner = other_image_partners(image)
    assert partner.sort().values.tolist() == list(range(len(image)))
    assert (image[partner] != image).all()


def test_shuffling_keeps_view_a_and_targets(boxes):
    pairs, mixed = boxes[0], shuffle_partners(boxes[0])
    assert torch.equal(mixed.features[0], pairs.features[0])
    assert torch.equal(mixed.targets, pairs.targets)
    partner = other_image_partners(pairs.crops.image)
    assert torch.equal(mixed.features[1], pairs.features[1][partner])


def test_mlp_learns_nonlinear_not_noise(boxes):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(3000, 2, generator=generator)
    y = torch.stack([x[:, 0] * x[:, 1] * 5 + 3, x[:, 0]], dim=1)
    prediction = predict_mlp(x[:2000], y[:2000], x[2000:])
    assert r2_score(y[2000:], prediction, multioutput="raw_values").min() > 0.8
    linear = predict_ridge(x[:2000], y[:2000], x[2000:])
    assert r2_score(y[2000:], linear, multioutput="raw_values")[0] < 0.1
    fit, score = boxes
    assert (r2_of_both(fit, score, predict_mlp) > r2_of_one(fit, score, predict_mlp) + 0.2)[
        :2
    ].all()
    noise = [replace(part, features=noise_like(part.features, i)) for i, part in enumerate(boxes)]
    assert r2_of_both(*noise, predict_mlp).abs().max() < 0.1


def test_parts_by_distance_overlap_and_size():
    a = torch.tensor([[0.3, 0.5, 0.2, 0.2]]).repeat(6, 1)
    b = a.clone()
    b[:, 0] += torch.tensor([0.05, 0.1, 0.25, 0.3, 0.45, 0.5])
    b[::2, 2:] *= 0.5
    parts = find_subsets(SampledCrops(torch.arange(6), torch.stack([a, b]), torch.ones(6, 2)))
    assert parts["near"].tolist() == [True, True, False, False, False, False]
    assert parts["far"].tolist() == [False, False, False, False, True, True]
    assert parts["overlap"].tolist() == [True, True, False, False, False, False]
    assert parts["unlike"].tolist() == [True, False] * 3
    assert (parts["alike"] ^ parts["unlike"]).all() and (parts["apart"] ^ parts["overlap"]).all()


def test_gain_of_a_part_matches_scikit_learn():
    generator = torch.Generator().manual_seed(0)
    truth, noise, other = torch.randn(3, 200, 3, generator=generator).double()
    both, ones = truth + 0.3 * noise, [truth + noise, truth + 2 * other]
    rows = torch.arange(200) < 80
    found = gains_by_subset({"few": torch.arange(200) < 5, "some": rows}, both, ones, truth)
    expected = r2_score(truth[rows], both[rows], multioutput="raw_values") - np.maximum(
        *(r2_score(truth[rows], one[rows], multioutput="raw_values") for one in ones)
    )
    assert found["some"] == pytest.approx((expected[:2].mean(), expected[2]))
    assert found["few"] == (0, 0)
