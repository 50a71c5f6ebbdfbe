"""More than two crops of an image: each encoded once, compared in pairs."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from sp_plugin import SpatialPrediction, SPConfig
from sp_plugin.views.capture import EncodedViews

IMAGES = torch.randn(5, 3, 40, 40, generator=torch.Generator().manual_seed(0))


class Net(nn.Module):
    """Keeps the crops that it is given, and the features that it gives."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.GELU())
        self.seen: list[Tensor] = []
        self.given: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        features = self.body(x).mean(dim=(2, 3))
        self.seen.append(x)
        self.given.append(features)
        if features.requires_grad:
            features.retain_grad()
        return features


def _sp(**settings) -> SpatialPrediction:
    return SpatialPrediction(
        8,
        SPConfig.from_dict(
            {"crop_size": 16, "hidden_dim": 32, "relative_weight": False, **settings}
        ),
    )


def _pair_indices(out, boxes: Tensor) -> list[tuple[int, int]]:
    """Which crops the pairs of an output are of."""
    pairs = out.boxes.unflatten(1, (-1, boxes.shape[1]))
    return [tuple(_index(boxes, box) for box in pair) for pair in pairs.unbind(1)]


def _index(boxes: Tensor, wanted: Tensor) -> int:
    (index,) = (i for i, box in enumerate(boxes) if torch.equal(box, wanted))
    return index


@pytest.mark.parametrize("crops", [2, 4, 8])
@pytest.mark.parametrize("pairs", ["all", 1])
def test_each_crop_is_encoded_once(crops, pairs):
    net, sp = Net(), _sp(num_crops=crops, num_pairs=pairs)
    out = sp(net, IMAGES, step=0)
    (seen,) = net.seen
    assert seen.shape == (crops * 5, 3, 16, 16)
    rows = 5 * (1 if pairs == 1 else crops * (crops - 1) // 2)
    assert out.boxes.shape == (2, rows, 4)
    assert out.prediction.shape == out.target.shape == (rows, 3)


def test_head_and_target_use_the_same_pairs():
    net, sp = Net(), _sp(num_crops=4)
    boxes = sp.sample_crops(IMAGES, torch.Generator().manual_seed(0)).boxes
    features = torch.randn(4, 5, 8)
    out = sp.pair_loss(features, boxes, step=0)
    pairs = [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)]
    assert _pair_indices(out, boxes) == pairs
    for i, (a, b) in enumerate(pairs):
        rows = slice(5 * i, 5 * i + 5)
        told = sp.head(features[a], features[b])
        torch.testing.assert_close(out.prediction[rows], told, atol=1e-6, rtol=1e-5)
        assert torch.equal(out.target[rows], sp.targets.encode(boxes[a], boxes[b]))
    torch.testing.assert_close(out.metrics["loss"], sp.loss(out.prediction, out.target))
    assert not net.seen


def test_gradient_reaches_crops_in_pairs():
    for pairs, reached in (("all", 4), (1, 2)):
        net, sp = Net(), _sp(num_crops=4, num_pairs=pairs)
        sp(net, IMAGES, step=0).loss.backward()
        moved = net.given[0].grad.unflatten(0, (4, 5)).abs().sum(dim=2) > 0
        assert moved.any(dim=1).sum() == reached
        assert torch.equal(moved.any(dim=1), moved.all(dim=1))


def test_forward_equals_separate_pair_loss():
    net, sp = Net(), _sp(num_crops=3, num_pairs=2)
    out = sp(net, IMAGES, step=4, rank=1, progress=0.5)
    features = net.given[0].detach().unflatten(0, (3, 5))
    boxes = _sp(num_crops=3, num_pairs=2)(Net(), IMAGES, step=4, rank=1, progress=0.5).boxes
    drawn = _all_boxes(sp, step=4, rank=1)
    again = sp.pair_loss(features, drawn, step=4, rank=1)
    assert torch.equal(out.boxes, boxes) and torch.equal(out.boxes, again.boxes)
    assert torch.equal(out.loss, again.scaled(sp.weight(0.5)).loss)


def _all_boxes(sp: SpatialPrediction, step: int, rank: int = 0) -> Tensor:
    """The boxes of all crops that a step draws, by a twin that asks about all pairs."""
    every = _sp(**{**sp.given.asdict(), "num_pairs": "all"})
    pairs = every(Net(), IMAGES, step=step, rank=rank).boxes.unflatten(1, (-1, len(IMAGES)))
    return torch.cat([pairs[0, :1], pairs[1, : sp.config.num_crops - 1]])


def test_pairs_depend_on_seed_rank_and_step():
    def asked(step: int, rank: int = 0, seed: int = 0) -> frozenset[tuple[int, int]]:
        sp = _sp(num_crops=4, num_pairs=2, seed=seed)
        return frozenset(
            _pair_indices(sp(Net(), IMAGES, step=step, rank=rank), _all_boxes(sp, step, rank))
        )

    steps = [asked(step) for step in range(12)]
    assert all(len(pairs) == 2 for pairs in steps)
    torch.rand(3)
    assert steps == [asked(step) for step in range(12)]
    assert len(set(steps)) > 4
    assert steps != [asked(step, rank=1) for step in range(12)]
    assert steps != [asked(step, seed=1) for step in range(12)]


def test_given_features_get_a_gradient():
    for weight in (1, 0):
        sp = _sp(num_crops=3, weight=weight, warmup_fraction=0)
        boxes = sp.sampler(5, torch.Generator().manual_seed(0))
        features = torch.randn(3, 5, 8, requires_grad=True)
        host = features.square().sum()
        encoded = EncodedViews(features, boxes, torch.ones(3, 5, 2))
        loss = sp(nn.Identity(), encoded, step=0).loss
        assert loss.requires_grad is (weight > 0)  # zeros, added, would still be a gradient
        (host + loss).backward()
        assert torch.equal(features.grad, 2 * features.detach()) is (weight == 0)


@pytest.mark.parametrize("spoilt", [float("inf"), float("nan"), 3e38])
def test_nonfinite_keeps_host_gradient(spoilt):
    sp = _sp(num_crops=3)
    boxes = sp.sampler(5, torch.Generator().manual_seed(0))
    features = torch.randn(3, 5, 8)
    features[2, 1, 0] = spoilt
    features.requires_grad_()
    out = sp.pair_loss(features, boxes, step=0)
    (features[0].sum() + out.loss).backward()
    expected = torch.zeros(3, 5, 8)
    expected[0] = 1
    assert out.metrics["skipped_fraction"] == 1 and torch.equal(features.grad, expected)


def test_one_image_with_several_pairs_has_r2():
    out = _sp(num_crops=4)(Net(), IMAGES[:1], step=0)
    assert all(out.metrics[f"r2_{name}"].isfinite() for name in ("dx", "dy", "scale"))
