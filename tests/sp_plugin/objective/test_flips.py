"""The flip law, and what pairs of the host's own views are measured in."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sp_plugin import ConfigError, SpatialPrediction, SPConfig
from sp_plugin.objective.flips import apply_flips, target_std_of_views
from sp_plugin.objective.targets import ENCODINGS

signs = st.sampled_from([1.0, -1.0])
flips = st.tuples(signs, signs)
encodings = st.sampled_from(ENCODINGS)


def boxes(n: int, k: int = 2, seed: int = 0) -> torch.Tensor:
    """(k, n, 4), anywhere in the image."""
    sides = 0.1 + 0.4 * torch.rand(k, n, 2, generator=torch.Generator().manual_seed(seed))
    place = torch.rand(k, n, 2, generator=torch.Generator().manual_seed(seed + 1))
    return torch.cat([sides / 2 + place * (1 - sides), sides], dim=-1)


def pair_loss_and_gradient(
    where: torch.Tensor, seen: torch.Tensor, encoding: str = "symmetric", n: int = 0
):
    """SP's answer about two views; with what the head said, on its graph."""
    sp = SpatialPrediction(8, SPConfig(target_encoding=encoding, weight=1, warmup_fraction=0))
    said: list[torch.Tensor] = []

    def keep(_, given):
        given[0].retain_grad()
        said.append(given[0])

    sp.loss.register_forward_pre_hook(keep)
    features = torch.randn(*where.shape[:2], 8, generator=torch.Generator().manual_seed(n))
    out = sp.pair_loss(features.requires_grad_(), where, seen, step=0)
    out.loss.backward()
    return out, said[0].grad


@given(flips, encodings)
def test_flipping_both_views_flips_targets(same, encoding) -> None:
    where = boxes(16)
    straight = torch.ones(2, 16, 2)
    plain, _ = pair_loss_and_gradient(where, straight, encoding)
    mirrored, _ = pair_loss_and_gradient(where, straight * torch.tensor(same), encoding)
    assert torch.equal(mirrored.target, plain.target * torch.tensor([*same, 1.0]))
    assert torch.equal(mirrored.prediction, plain.prediction)
    # The same numbers as of the image's mirror image, seen straight.
    image = where.clone()
    for axis, sign in enumerate(same):
        if sign < 0:
            image[..., axis] = 1 - image[..., axis]
    again, _ = pair_loss_and_gradient(image, straight, encoding)
    assert torch.allclose(again.target, mirrored.target, atol=1e-5)
    assert torch.allclose(again.loss, mirrored.loss, atol=1e-6)


@given(flips, flips)
def test_differing_flips_mask_that_axis(of_a, of_b) -> None:
    seen = torch.tensor([of_a, of_b])[:, None].expand(2, 6, 2)
    for encoding in ("symmetric", "image"):
        _, grad = pair_loss_and_gradient(boxes(6), seen, encoding)
        counts = [of_a[0] == of_b[0], of_a[1] == of_b[1], True]
        assert ((grad != 0).any(dim=0) == torch.tensor(counts)).all()
    _, grad = pair_loss_and_gradient(boxes(6), seen, "anchor")
    assert (grad != 0).any(dim=0).all()


@given(flips, flips)
def test_anchor_target_uses_its_own_frame(of_a, of_b) -> None:
    target = torch.tensor([[2.0, 3.0, 4.0]])
    told, counts = apply_flips(target, torch.tensor([[of_a], [of_b]]), "anchor")
    assert told.tolist() == [[2 * of_a[0], 3 * of_a[1], 4.0]] and counts.all()


def test_unknown_boxes_are_left_out() -> None:
    where, seen = boxes(8), torch.ones(2, 8, 2)
    gone = where.clone()
    gone[0, 2], gone[1, 5] = torch.nan, torch.nan
    out, grad = pair_loss_and_gradient(gone, seen)
    kept = [0, 1, 3, 4, 6, 7]
    sp = SpatialPrediction(8, SPConfig(weight=1, warmup_fraction=0))
    features = torch.randn(2, 8, 8, generator=torch.Generator().manual_seed(0))
    rest = sp.pair_loss(features[:, kept], where[:, kept], step=0)
    assert torch.allclose(out.loss, rest.loss) and torch.isfinite(out.target).all()
    for name in ("r2_dx", "r2_dy", "r2_scale"):
        assert torch.allclose(out.metrics[name], rest.metrics[name], atol=1e-6)
    assert out.metrics["skipped_fraction"].item() == pytest.approx(2 / 8)
    assert (grad[[2, 5]] == 0).all() and (grad[kept] != 0).any(dim=1).all()


def test_all_unknown_gives_zero_gradient() -> None:
    out, grad = pair_loss_and_gradient(torch.full((2, 4, 4), torch.nan), torch.ones(2, 4, 2))
    assert out.loss.item() == 0 and out.metrics["skipped_fraction"] == 1 and (grad == 0).all()


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_host_view_targets_have_unit_std(encoding: str) -> None:
    sp = SpatialPrediction(8, SPConfig(target_encoding=encoding))
    sp.calibrate_targets(boxes(256, k=3).transpose(0, 1))
    a, b = boxes(4000, seed=5)
    assert torch.allclose(sp.targets.encode(a, b).std(dim=0), torch.ones(3), atol=0.08)


def test_uninformative_views_are_refused() -> None:
    whole = torch.tensor([0.5, 0.5, 1.0, 1.0]).expand(9, 2, 4)
    for told in (whole, torch.full_like(whole, torch.nan)):
        with pytest.raises(ConfigError, match=r"^source: got 'host_views', but all views show"):
            target_std_of_views(told, "symmetric")
