"""A relative weight is the share of SP's gradient in the host's own, whatever the host's loss."""

from __future__ import annotations

import copy
import math
import pickle
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from sp_plugin import ConfigError, EncodedViews, SpatialPrediction, SPConfig
from sp_plugin.gradient_balance import GradientBalance, is_measurement_step

IMAGES = torch.rand(6, 3, 40, 40, generator=torch.Generator().manual_seed(0))
# Buffers of an open measurement.
MEASURED = ("host_sq_norm", "sp_sq_norm", "loss_multiplier")


def _net(*more: nn.Module) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), *more, nn.ReLU(), nn.Conv2d(8, 8, 3))


def _sp(weight: float = 0.5, **settings: Any) -> SpatialPrediction:
    return SpatialPrediction(
        8,
        SPConfig(
            weight, warmup_fraction=0, crop_size=16, hidden_dim=32, sample_fraction=1, **settings
        ),
    )


def _gradients_per_step(
    net: nn.Module, sp: SpatialPrediction, backward: Any, steps: Any = range(3)
) -> list[Tensor]:
    """Gradient at the backbone in each step, without an optimizer's step."""
    gradients = []
    for step in steps:
        net.zero_grad()
        backward(host_loss(net) + sp(net, IMAGES, step=step).loss)
        gradients.append(torch.cat([p.grad.flatten() for p in net.parameters()]).clone())
    return gradients


def _measured_scale(sp: SpatialPrediction) -> Tensor:
    """Scale of the loss after the last backward pass has been measured."""
    sp.balance.finish_measurement()
    return sp.balance.loss_scale


def host_loss(net: nn.Module) -> Tensor:
    return net(IMAGES).square().mean()


def _host_gradient(net: nn.Module) -> Tensor:
    net.zero_grad()
    host_loss(net).backward()
    return torch.cat([p.grad.flatten() for p in net.parameters()])


@settings(max_examples=20)
@given(st.floats(1e-4, 1e4), st.floats(0.01, 10))
def test_gradient_share_equals_weight(times, weight):
    net, sp = _net(), _sp(weight)
    (times * host_loss(net) + sp(net, IMAGES, step=0).loss).backward()
    host = times * _host_gradient(net).norm()
    sp_grads = torch.autograd.grad(sp(net, IMAGES, step=1).loss, list(net.parameters()))
    share = torch.cat([grad.flatten() for grad in sp_grads]).norm() / host
    assert 0.5 < share / weight < 2  # step 1 has other crops than step 0, which was measured


def test_share_is_exact_for_measured_crops():
    net = _net()
    boxes = _sp().sampler(6, torch.Generator().manual_seed(0))
    sp = _sp(num_crops=4)
    encoded = EncodedViews(torch.zeros(()), boxes, torch.ones(4, 6, 2))

    def step(number: int) -> tuple[Tensor, Tensor]:
        net.zero_grad()
        features = torch.stack([net(IMAGES + 0.1 * i).mean((2, 3)) for i in range(4)])
        out = sp(net, encoded._replace(features=features), step=number)
        (3 * features.square().sum() + out.loss).backward()
        return torch.cat([p.grad.flatten() for p in net.parameters()]), out.metrics["weight"]

    (host, weight_measuring), (total, weight) = step(0), step(1)
    assert weight_measuring == 0 and weight > 0
    torch.testing.assert_close((total - host).norm(), 0.5 * host.norm(), rtol=1e-3, atol=0)


def test_measurement_adds_no_sp_gradient():
    net, sp = _net(), _sp()
    host = _host_gradient(net)
    gradients = _gradients_per_step(net, sp, lambda loss: loss.backward(), range(20))
    for step, gradient in enumerate(gradients):
        assert torch.equal(gradient, host) is is_measurement_step(step)
    assert all(p.grad is not None for p in sp.head.parameters())


@pytest.mark.parametrize("scale", [1.0, 1 / 4, 2.0**16])
def test_loss_scaling_changes_nothing(scale: float):
    """Gradient scaler or accumulated steps; the factors are powers of two, so bits are equal."""
    ratios = []
    for factor in (1.0, scale):
        net, sp = _net(), _sp()
        _gradients_per_step(net, sp, lambda loss, factor=factor: (factor * loss).backward())
        ratios.append(sp.balance.log_ratio)
    assert ratios[0].isfinite() and torch.equal(*ratios)


def test_outliers_are_limited_or_ignored():
    net, sp = _net(), _sp()
    _gradients_per_step(net, sp, lambda loss: loss.backward(), range(4))
    before = sp.balance.loss_scale
    with_outlier = copy.deepcopy(sp)
    for each, times in ((sp, float("nan")), (with_outlier, 1e4)):
        net.zero_grad()
        (times * host_loss(net) + each(net, IMAGES, step=4).loss).backward()
    assert torch.equal(_measured_scale(sp), before)
    torch.testing.assert_close(_measured_scale(with_outlier), 2 * before)


def test_no_host_gradient_uses_plain_weight():
    net, sp = _net(), _sp()
    for step in range(10):
        out = sp(net, IMAGES, step=step)
        (torch.zeros((), requires_grad=True) + out.loss).backward()
        assert out.metrics["weight"] == (0 if is_measurement_step(step) else 0.5)
    assert sp.balance.loss_scale == 1
    _gradients_per_step(net, sp, lambda loss: (1e6 * loss).backward(), (16, 17))
    assert 1 < sp.balance.loss_scale <= 2 + 1e-6


def test_nonfinite_batch_is_not_measured():
    net, sp = _net(), _sp()
    corrupted = IMAGES.clone()
    corrupted[0, 0, 0] = math.nan
    (host_loss(net) + sp(net, corrupted, step=0).loss).backward()
    assert _measured_scale(sp) == 0
    _gradients_per_step(net, sp, lambda loss: loss.backward(), (2, 3))
    assert sp.balance.log_ratio.isfinite()


def test_no_backward_pass_leaves_no_hook():
    net, sp = _net(), _sp()
    sp(net, IMAGES, step=0)
    _gradients_per_step(net, sp, lambda loss: loss.backward(), range(2, 4))
    other, fresh = _net(), _sp()
    _gradients_per_step(other, fresh, lambda loss: loss.backward(), range(2, 4))
    assert torch.equal(sp.balance.log_ratio, fresh.balance.log_ratio)
    assert sp.balance.log_ratio.isfinite()
    assert not any(p._backward_hooks for p in net.parameters())


def test_repeated_step_is_measured_once():
    net, sp = _net(), _sp()
    _gradients_per_step(net, sp, lambda loss: loss.backward(), (0, 1, 2, 3))
    once = sp.balance.log_ratio.clone()
    _gradients_per_step(net, sp, lambda loss: loss.backward(), (3, 3))
    assert torch.equal(sp.balance.log_ratio, once)


def test_calls_at_some_steps_are_measured():
    net, sp = _net(), _sp()
    _gradients_per_step(net, sp, lambda loss: loss.backward(), (0, 10))
    once, scale = _sp(), sp.balance.loss_scale
    _gradients_per_step(net, once, lambda loss: loss.backward(), (0, 1))
    assert scale > 0 and torch.equal(scale, once.balance.loss_scale)
    for step in (64, 74):
        net.zero_grad()
        (1e6 * host_loss(net) + sp(net, IMAGES, step=step).loss).backward()
    torch.testing.assert_close(sp.balance.loss_scale, 2 * scale)


@pytest.mark.parametrize("num_calls", [2, 3, 8])
def test_calls_of_one_backward_pass(num_calls: int):
    """SP on several views or micro-batches: the method's gradient is measured without theirs."""
    net, sp = _net(), _sp(weight=2)
    host, share = _host_gradient(net), []
    for step in range(0, 3 * 64, num_calls):
        net.zero_grad()
        outputs = [sp(net, IMAGES, step=step + i) for i in range(num_calls)]
        (host_loss(net) + sum(out.loss for out in outputs)).backward()
        gradient = torch.cat([p.grad.flatten() for p in net.parameters()])
        is_measuring = any(map(is_measurement_step, range(step, step + num_calls)))
        assert torch.equal(gradient, host) is is_measuring
        share.append(float((gradient - host).norm() / host.norm()))
    weighted = [s for s in share[len(share) // 2 :] if s > 0]
    assert all(0.25 < s / (2 * num_calls) < 2 for s in weighted)  # crops differ from call to call


def test_step_after_one_without_backward():
    net, sp = _net(), _sp()
    _gradients_per_step(net, sp, lambda loss: loss.backward(), (0, 1))
    before = sp.balance.log_ratio.clone()
    sp(net, IMAGES, step=2)
    host = _host_gradient(net)
    first, second = _gradients_per_step(net, sp, lambda loss: loss.backward(), (3, 5))
    assert torch.equal(first, host) and not torch.equal(second, host)
    assert torch.equal(sp.balance.log_ratio, before)


def test_only_first_backward_pass_counts():
    ratios = []
    for passes in (1, 3):
        net, sp = _net(), _sp()
        loss = host_loss(net) + sp(net, IMAGES, step=0).loss
        for _ in range(passes):
            loss.backward(retain_graph=True)
        sp.balance.finish_measurement()
        ratios.append(sp.balance.log_ratio)
    assert torch.equal(*ratios)


@pytest.mark.parametrize("stop", [1, 2, 5])
def test_resumed_run_equals_uninterrupted(stop: int):
    net, sp = _net(), _sp()
    expected = _gradients_per_step(net, sp, lambda loss: loss.backward(), range(7))
    net, sp = _net(), _sp()
    first = _gradients_per_step(net, sp, lambda loss: loss.backward(), range(stop))
    state, sp = sp.state_dict(), _sp(seed=0)
    sp(net, IMAGES, step=1)  # a module that was in use, too
    sp.load_state_dict(state)
    rest = _gradients_per_step(_net(), sp, lambda loss: loss.backward(), range(stop, 7))
    assert all(torch.equal(*each) for each in zip(expected, first + rest, strict=True))


def test_can_be_copied_during_measurement():
    net, sp = _net(), _sp()
    (host_loss(net) + sp(net, IMAGES, step=0).loss).backward()
    for twin in (copy.deepcopy(sp), pickle.loads(pickle.dumps(sp))):
        for name in MEASURED:
            copied, original = getattr(twin.balance, name), getattr(sp.balance, name)
            assert torch.equal(copied, original) and copied != 0


def test_no_relative_weight_no_measurement():
    net = _net()
    for sp in (_sp(0.0), _sp(relative_weight=False)):
        assert torch.equal(
            _gradients_per_step(net, sp, lambda loss: loss.backward())[0], _host_gradient(net)
        ) is (sp.config.weight == 0)
        assert sp.balance.log_ratio == -math.inf
    sp = _sp()
    with torch.no_grad():
        sp(net, IMAGES, step=0)
    assert sp.balance.log_ratio == -math.inf
    assert not any(getattr(sp.balance, name).any() for name in MEASURED)


def test_frozen_backbone_is_not_measured():
    net, sp = _net().requires_grad_(False), _sp()
    for step in range(3):
        out = sp(net, IMAGES, step=step)
        assert out.loss == 0
        out.loss.backward()
    _gradients_per_step(net.requires_grad_(), sp, lambda loss: loss.backward(), (64, 65))
    assert sp.balance.log_ratio.isfinite()


def test_compiled_backbone_is_measured():
    net, sp = _net(nn.BatchNorm2d(8)), _sp()
    _gradients_per_step(net, sp, lambda loss: loss.backward(), range(2))
    same, twin = _net(nn.BatchNorm2d(8)), _sp()
    compiled: Any = torch.compile(same, backend="aot_eager")
    _gradients_per_step(compiled, twin, lambda loss: loss.backward(), range(2))
    torch.testing.assert_close(twin.balance.log_ratio, sp.balance.log_ratio)


class Checkpointed(nn.Module):
    def __init__(self, reentrant: bool) -> None:
        super().__init__()
        self.net, self.reentrant = _net(), reentrant

    def forward(self, images: Tensor) -> Tensor:
        images = images.detach().requires_grad_()
        out: Tensor = checkpoint(self.net, images, use_reentrant=self.reentrant)
        return out


def test_reentrant_checkpoint_is_refused():
    net, sp = Checkpointed(False), _sp()
    _gradients_per_step(net, sp, lambda loss: loss.backward())
    plain = _sp()
    _gradients_per_step(_net(), plain, lambda loss: loss.backward())
    assert torch.equal(sp.balance.log_ratio, plain.balance.log_ratio)
    with pytest.raises(
        ConfigError, match=r"^relative_weight: got true, but .*use_reentrant=True.*; takes"
    ):
        _sp()(Checkpointed(True), IMAGES, step=0)
    plain = _sp(relative_weight=False)
    assert plain(Checkpointed(True), IMAGES, step=0).loss > 0


@pytest.mark.parametrize("case", ["frozen", "no_grad"])
def test_no_gradient_names_both_causes(case: str):
    net, feature_fn = _net(), None
    if case == "frozen":
        net[0].requires_grad_(False)
    else:
        feature_fn = torch.no_grad()(lambda backbone, crops: backbone(crops).mean((2, 3)))
    settings = SPConfig(0.5, crop_size=16, layer="0" if case == "frozen" else None)
    sp = SpatialPrediction(8, settings, feature_fn)
    with pytest.raises(ConfigError, match=r"use_reentrant=True, or .* frozen or .*; takes false"):
        sp(net, IMAGES, step=0)


def test_checkpointed_bn_needs_update_bn():
    net = Checkpointed(False)
    net.net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 8, 3))
    with pytest.raises(ConfigError, match=r"^update_bn: got false, but .*; takes true"):
        _sp()(net, IMAGES, step=0)
    sp = _sp(update_bn=True)
    _gradients_per_step(net, sp, lambda loss: loss.backward())
    assert sp.balance.log_ratio.isfinite()


def test_loss_scale_by_hand():
    backbone, head, balance = nn.Linear(3, 1, bias=False), nn.Linear(1, 1), GradientBalance()
    measurements = ((10, 4, 2.5), (0, 4, 2.5), (math.inf, 4, 2.5), (10, math.inf, 2.5), (160, 4, 5))
    for host, sp, expected in measurements:
        total = backbone(torch.tensor([[1.0, 2.0, 2.0]])).sum()  # a gradient of norm 3
        zero_loss = balance.begin_measurement(sp * total, backbone, head, retain_graph=True)
        (host * total + zero_loss).backward()
        balance.finish_measurement()
        # The last ratio is 16 times the first: one measurement at most doubles the scale.
        assert balance.loss_scale.item() == pytest.approx(expected)
