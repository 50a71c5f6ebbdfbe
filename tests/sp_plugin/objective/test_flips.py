"""Targets of the method's own views: flipped views, unknown boxes, standard deviations."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sp_plugin import ConfigError, SpatialPrediction, SPConfig
from sp_plugin.objective.targets import TARGET_ENCODINGS, apply_flips, target_std_of_views

signs = st.sampled_from([1.0, -1.0])
view_flips = st.tuples(signs, signs)
encodings = st.sampled_from(sorted(TARGET_ENCODINGS))


def random_boxes(n: int, k: int = 2, seed: int = 0) -> torch.Tensor:
    """(k, n, 4), anywhere in the image."""
    sides = 0.1 + 0.4 * torch.rand(k, n, 2, generator=torch.Generator().manual_seed(seed))
    corner = torch.rand(k, n, 2, generator=torch.Generator().manual_seed(seed + 1))
    return torch.cat([sides / 2 + corner * (1 - sides), sides], dim=-1)


def pair_loss_and_gradient(
    boxes: torch.Tensor, flips: torch.Tensor, encoding: str = "symmetric", seed: int = 0
):
    """SP's output for two views, and the gradient at the head's predictions."""
    sp = SpatialPrediction(8, SPConfig(target_encoding=encoding, weight=1, warmup_fraction=0))
    predictions: list[torch.Tensor] = []

    def keep_prediction(_, inputs):
        inputs[0].retain_grad()
        predictions.append(inputs[0])

    sp.loss.register_forward_pre_hook(keep_prediction)
    features = torch.randn(*boxes.shape[:2], 8, generator=torch.Generator().manual_seed(seed))
    out = sp.pair_loss(features.requires_grad_(), boxes, flips, step=0)
    out.loss.backward()
    return out, predictions[0].grad


@given(view_flips, encodings)
def test_flipping_both_views_flips_targets(flip, encoding) -> None:
    boxes = random_boxes(16)
    unflipped = torch.ones(2, 16, 2)
    expected, _ = pair_loss_and_gradient(boxes, unflipped, encoding)
    flipped, _ = pair_loss_and_gradient(boxes, unflipped * torch.tensor(flip), encoding)
    assert torch.equal(flipped.target, expected.target * torch.tensor([*flip, 1.0]))
    assert torch.equal(flipped.prediction, expected.prediction)
    # The same values as for unflipped views of the flipped image.
    image_boxes = boxes.clone()
    for axis, sign in enumerate(flip):
        if sign < 0:
            image_boxes[..., axis] = 1 - image_boxes[..., axis]
    of_flipped_image, _ = pair_loss_and_gradient(image_boxes, unflipped, encoding)
    assert torch.allclose(of_flipped_image.target, flipped.target, atol=1e-5)
    assert torch.allclose(of_flipped_image.loss, flipped.loss, atol=1e-6)


@given(view_flips, view_flips)
def test_differing_flips_mask_that_axis(flip_a, flip_b) -> None:
    flips = torch.tensor([flip_a, flip_b])[:, None].expand(2, 6, 2)
    for encoding in ("symmetric", "image"):
        _, grad = pair_loss_and_gradient(random_boxes(6), flips, encoding)
        counts = [flip_a[0] == flip_b[0], flip_a[1] == flip_b[1], True]
        assert ((grad != 0).any(dim=0) == torch.tensor(counts)).all()
    _, grad = pair_loss_and_gradient(random_boxes(6), flips, "anchor")
    assert (grad != 0).any(dim=0).all()


@given(view_flips, view_flips)
def test_anchor_target_uses_its_own_frame(flip_a, flip_b) -> None:
    target = torch.tensor([[2.0, 3.0, 4.0]])
    flipped, mask = apply_flips(target, torch.tensor([[flip_a], [flip_b]]), "anchor")
    assert flipped.tolist() == [[2 * flip_a[0], 3 * flip_a[1], 4.0]] and mask.all()


def test_unknown_boxes_are_left_out() -> None:
    boxes, flips = random_boxes(8), torch.ones(2, 8, 2)
    partly_unknown = boxes.clone()
    partly_unknown[0, 2], partly_unknown[1, 5] = torch.nan, torch.nan
    out, grad = pair_loss_and_gradient(partly_unknown, flips)
    kept = [0, 1, 3, 4, 6, 7]
    sp = SpatialPrediction(8, SPConfig(weight=1, warmup_fraction=0))
    features = torch.randn(2, 8, 8, generator=torch.Generator().manual_seed(0))
    expected = sp.pair_loss(features[:, kept], boxes[:, kept], step=0)
    assert torch.allclose(out.loss, expected.loss) and torch.isfinite(out.target).all()
    for name in ("r2_dx", "r2_dy", "r2_scale"):
        assert torch.allclose(out.metrics[name], expected.metrics[name], atol=1e-6)
    assert out.metrics["skipped_fraction"].item() == pytest.approx(2 / 8)
    assert (grad[[2, 5]] == 0).all() and (grad[kept] != 0).any(dim=1).all()


def test_all_unknown_gives_zero_gradient() -> None:
    out, grad = pair_loss_and_gradient(torch.full((2, 4, 4), torch.nan), torch.ones(2, 4, 2))
    assert out.loss.item() == 0 and out.metrics["skipped_fraction"] == 1 and (grad == 0).all()


@pytest.mark.parametrize("encoding", TARGET_ENCODINGS)
def test_host_view_targets_have_unit_std(encoding: str) -> None:
    sp = SpatialPrediction(8, SPConfig(target_encoding=encoding))
    sp.calibrate_targets(random_boxes(256, k=3).transpose(0, 1))
    a, b = random_boxes(4000, seed=5)
    assert torch.allclose(sp.targets.encode(a, b).std(dim=0), torch.ones(3), atol=0.08)


def test_uninformative_views_are_refused() -> None:
    full = torch.tensor([0.5, 0.5, 1.0, 1.0]).expand(9, 2, 4)
    for boxes in (full, torch.full_like(full, torch.nan)):
        with pytest.raises(ConfigError, match=r"^source: got 'host_views', but all views show"):
            target_std_of_views(boxes, "symmetric")
