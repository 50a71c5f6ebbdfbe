"""More than two crops of an image: each is encoded once, and they are compared in pairs."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from sp_plugin import EncodedViews, SpatialPrediction, SPConfig

IMAGES = torch.randn(5, 3, 40, 40, generator=torch.Generator().manual_seed(0))


class Net(nn.Module):
    """Keeps its inputs and its features."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.GELU())
        self.inputs: list[Tensor] = []
        self.features: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        features = self.body(x).mean(dim=(2, 3))
        self.inputs.append(x)
        self.features.append(features)
        if features.requires_grad:
            features.retain_grad()
        return features


def _sp(**settings) -> SpatialPrediction:
    return SpatialPrediction(
        8,
        SPConfig.from_dict(
            {
                "crop_size": 16,
                "hidden_dim": 32,
                "sample_fraction": 1,
                "relative_weight": False,
                **settings,
            }
        ),
    )


def _pair_indices(out, boxes: Tensor) -> list[tuple[int, int]]:
    """Indices of the crops of each pair of an output."""
    pairs = out.boxes.unflatten(1, (-1, boxes.shape[1]))
    return [tuple(_index(boxes, box) for box in pair) for pair in pairs.unbind(1)]


def _index(boxes: Tensor, box: Tensor) -> int:
    (index,) = (i for i, candidate in enumerate(boxes) if torch.equal(candidate, box))
    return index


@pytest.mark.parametrize("crops", [2, 4, 8])
@pytest.mark.parametrize("pairs", ["all", 1])
def test_each_crop_is_encoded_once(crops, pairs):
    net, sp = Net(), _sp(num_crops=crops, num_pairs=pairs)
    out = sp(net, IMAGES, step=0)
    (inputs,) = net.inputs
    assert inputs.shape == (crops * 5, 3, 16, 16)
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
        prediction = sp.head(features[a], features[b])
        torch.testing.assert_close(out.prediction[rows], prediction, atol=1e-6, rtol=1e-5)
        assert torch.equal(out.target[rows], sp.targets.encode(boxes[a], boxes[b]))
    torch.testing.assert_close(out.metrics["loss"], sp.loss(out.prediction, out.target))
    assert not net.inputs


def test_gradient_reaches_crops_in_pairs():
    for pairs, num_reached in (("all", 4), (1, 2)):
        net, sp = Net(), _sp(num_crops=4, num_pairs=pairs)
        sp(net, IMAGES, step=0).loss.backward()
        reached = net.features[0].grad.unflatten(0, (4, 5)).abs().sum(dim=2) > 0
        assert reached.any(dim=1).sum() == num_reached
        assert torch.equal(reached.any(dim=1), reached.all(dim=1))


def test_forward_equals_separate_pair_loss():
    net, sp = Net(), _sp(num_crops=3, num_pairs=2)
    out = sp(net, IMAGES, step=4, rank=1, progress=0.5)
    features = net.features[0].detach().unflatten(0, (3, 5))
    repeated = _sp(num_crops=3, num_pairs=2)(Net(), IMAGES, step=4, rank=1, progress=0.5)
    separate = sp.pair_loss(features, _all_boxes(sp, step=4, rank=1), step=4, rank=1)
    assert torch.equal(out.boxes, repeated.boxes) and torch.equal(out.boxes, separate.boxes)
    assert torch.equal(out.loss, separate.scaled(sp.weight(0.5)).loss)


def _all_boxes(sp: SpatialPrediction, step: int, rank: int = 0) -> Tensor:
    """Boxes of all crops that a step draws, from the same settings with all pairs."""
    with_all_pairs = _sp(**{**sp.user_config.asdict(), "num_pairs": "all"})
    out = with_all_pairs(Net(), IMAGES, step=step, rank=rank)
    pairs = out.boxes.unflatten(1, (-1, len(IMAGES)))
    return torch.cat([pairs[0, :1], pairs[1, : sp.config.num_crops - 1]])


def test_pairs_depend_on_seed_rank_and_step():
    def sampled(step: int, rank: int = 0, seed: int = 0) -> frozenset[tuple[int, int]]:
        sp = _sp(num_crops=4, num_pairs=2, seed=seed)
        return frozenset(
            _pair_indices(sp(Net(), IMAGES, step=step, rank=rank), _all_boxes(sp, step, rank))
        )

    steps = [sampled(step) for step in range(12)]
    assert all(len(pairs) == 2 for pairs in steps)
    torch.rand(3)
    assert steps == [sampled(step) for step in range(12)]
    assert len(set(steps)) > 4
    assert steps != [sampled(step, rank=1) for step in range(12)]
    assert steps != [sampled(step, seed=1) for step in range(12)]


def test_given_features_get_a_gradient():
    for weight in (1, 0):
        sp = _sp(num_crops=3, weight=weight, warmup_fraction=0)
        boxes = sp.sampler(5, torch.Generator().manual_seed(0))
        features = torch.randn(3, 5, 8, requires_grad=True)
        host = features.square().sum()
        encoded = EncodedViews(features, boxes, torch.ones(3, 5, 2))
        loss = sp(nn.Identity(), encoded, step=0).loss
        assert loss.requires_grad is (weight > 0)  # a gradient of zeros would be added as well
        (host + loss).backward()
        assert torch.equal(features.grad, 2 * features.detach()) is (weight == 0)


@pytest.mark.parametrize("value", [float("inf"), float("nan"), 3e38])
def test_nonfinite_keeps_host_gradient(value):
    sp = _sp(num_crops=3)
    boxes = sp.sampler(5, torch.Generator().manual_seed(0))
    features = torch.randn(3, 5, 8)
    features[2, 1, 0] = value
    features.requires_grad_()
    out = sp.pair_loss(features, boxes, step=0)
    (features[0].sum() + out.loss).backward()
    expected = torch.zeros(3, 5, 8)
    expected[0] = 1
    assert out.metrics["skipped_fraction"] == 1 and torch.equal(features.grad, expected)


def test_one_image_with_several_pairs_has_r2():
    out = _sp(num_crops=4)(Net(), IMAGES[:1], step=0)
    assert all(out.metrics[f"r2_{name}"].isfinite() for name in ("dx", "dy", "scale"))
