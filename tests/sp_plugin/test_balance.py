"""A relative weight: what share of the host's gradient SP's really is, whatever the host does."""

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

from sp_plugin import ConfigError, SpatialPrediction, SPConfig
from sp_plugin.gradient_balance import GradientBalance, is_measurement_step
from sp_plugin.views.capture import EncodedViews

IMAGES = torch.rand(6, 3, 40, 40, generator=torch.Generator().manual_seed(0))


def _net(*more: nn.Module) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), *more, nn.ReLU(), nn.Conv2d(8, 8, 3))


def _sp(weight: float = 0.5, **settings: Any) -> SpatialPrediction:
    return SpatialPrediction(
        8, SPConfig(weight, warmup_fraction=0, crop_size=16, hidden_dim=32, **settings)
    )


def _steps(net: nn.Module, sp: SpatialPrediction, loss: Any, steps: Any = range(3)) -> list[Tensor]:
    """Each step's gradient at the backbone, without an optimizer's step."""
    gradients = []
    for step in steps:
        net.zero_grad()
        loss(loss_of(net) + sp(net, IMAGES, step=step).loss)
        gradients.append(torch.cat([p.grad.flatten() for p in net.parameters()]).clone())
    return gradients


def loss_of(net: nn.Module) -> Tensor:
    return net(IMAGES).square().mean()


def _plain(net: nn.Module) -> Tensor:
    net.zero_grad()
    loss_of(net).backward()
    return torch.cat([p.grad.flatten() for p in net.parameters()])


@settings(deadline=None, max_examples=20)
@given(st.floats(1e-4, 1e4), st.floats(0.01, 10))
def test_sp_s_share_of_the_host_s_gradient_is_the_weight_whatever_the_host_s_loss(times, weight):
    net, sp = _net(), _sp(weight)
    (times * loss_of(net) + sp(net, IMAGES, step=0).loss).backward()
    host = times * _plain(net).norm()
    own = torch.autograd.grad(sp(net, IMAGES, step=1).loss, list(net.parameters()))
    share = torch.cat([grad.flatten() for grad in own]).norm() / host
    assert 0.5 < share / weight < 2  # of other crops than those that were measured


def test_it_is_exact_where_the_crops_are_those_that_were_measured():
    net = _net()
    boxes = _sp().sampler(6, torch.Generator().manual_seed(0))
    sp = _sp(num_crops=4)
    told = EncodedViews(torch.zeros(()), boxes, torch.ones(4, 6, 2))

    def step(number: int) -> tuple[Tensor, Tensor]:
        net.zero_grad()
        features = torch.stack([net(IMAGES + 0.1 * i).mean((2, 3)) for i in range(4)])
        out = sp(net, told._replace(features=features), step=number)
        (3 * features.square().sum() + out.loss).backward()
        return torch.cat([p.grad.flatten() for p in net.parameters()]), out.metrics["weight"]

    (host, none), (whole, weight) = step(0), step(1)
    assert none == 0 and weight > 0
    torch.testing.assert_close((whole - host).norm(), 0.5 * host.norm(), rtol=1e-3, atol=0)


def test_in_a_step_that_measures_the_host_has_its_gradient_to_itself():
    net, sp = _net(), _sp()
    host = _plain(net)
    alone = _steps(net, sp, lambda loss: loss.backward(), range(20))
    for step, gradient in enumerate(alone):
        assert torch.equal(gradient, host) is is_measurement_step(step)
    assert all(p.grad is not None for p in sp.head.parameters())


@pytest.mark.parametrize("scale", [1.0, 1 / 4, 2.0**16])
def test_a_scaler_of_the_host_s_loss_changes_nothing(scale: float):
    """Of half precision, or of accumulated steps; powers of two, so to the bit."""
    weights = []
    for by in (1.0, scale):
        net, sp = _net(), _sp()
        _steps(net, sp, lambda loss, by=by: (by * loss).backward())
        weights.append(sp.balance.log_ratio)
    assert weights[0].isfinite() and torch.equal(*weights)


def test_one_wild_batch_moves_it_by_little_and_one_that_is_not_finite_by_nothing():
    net, sp = _net(), _sp()
    _steps(net, sp, lambda loss: loss.backward(), range(4))
    before = sp.balance.loss_scale(3)
    wild = copy.deepcopy(sp)
    for out, times in ((sp, float("nan")), (wild, 1e4)):
        net.zero_grad()
        (times * loss_of(net) + out(net, IMAGES, step=4).loss).backward()
    assert torch.equal(sp.balance.loss_scale(5), before)
    torch.testing.assert_close(wild.balance.loss_scale(5), 2 * before)


def test_a_host_without_a_gradient_there_takes_a_plain_weight_until_it_has_one():
    net, sp = _net(), _sp()
    for step in range(2):
        out = sp(net, IMAGES, step=step)
        (torch.zeros((), requires_grad=True) + out.loss).backward()
    assert sp.balance.loss_scale(2) == 1 and out.metrics["weight"] == 0.5
    _steps(net, sp, lambda loss: (1e6 * loss).backward(), (2, 3))
    assert 1 < sp.balance.loss_scale(4) <= 2 + 1e-6


def test_a_batch_that_is_not_finite_is_left_out_of_the_measurement_too():
    net, sp = _net(), _sp()
    spoilt = IMAGES.clone()
    spoilt[0, 0, 0] = math.nan
    (loss_of(net) + sp(net, spoilt, step=0).loss).backward()
    assert sp.balance.loss_scale(1) == 0
    _steps(net, sp, lambda loss: loss.backward(), (2, 3))
    assert sp.balance.log_ratio.isfinite()


def test_a_step_without_a_backward_pass_leaves_no_hook_and_no_trace():
    net, sp = _net(), _sp()
    sp(net, IMAGES, step=0)
    _steps(net, sp, lambda loss: loss.backward(), range(2, 4))
    other, fresh = _net(), _sp()
    _steps(other, fresh, lambda loss: loss.backward(), range(2, 4))
    assert torch.equal(sp.balance.log_ratio, fresh.balance.log_ratio)
    assert sp.balance.log_ratio.isfinite()
    assert not any(p._backward_hooks for p in net.parameters())


def test_what_was_measured_counts_once_though_a_step_be_asked_again():
    net, sp = _net(), _sp()
    _steps(net, sp, lambda loss: loss.backward(), (0, 1, 2, 3))
    once = sp.balance.log_ratio.clone()
    _steps(net, sp, lambda loss: loss.backward(), (3, 3))
    assert torch.equal(sp.balance.log_ratio, once)


def test_only_the_first_backward_pass_of_a_step_counts():
    ratios = []
    for passes in (1, 3):
        net, sp = _net(), _sp()
        loss = loss_of(net) + sp(net, IMAGES, step=0).loss
        for _ in range(passes):
            loss.backward(retain_graph=True)
        sp.balance.loss_scale(1)
        ratios.append(sp.balance.log_ratio)
    assert torch.equal(*ratios)


@pytest.mark.parametrize("at", [1, 2, 5])
def test_a_run_that_is_stopped_after_any_step_goes_on_to_the_bit(at: int):
    net, sp = _net(), _sp()
    whole = _steps(net, sp, lambda loss: loss.backward(), range(7))
    net, sp = _net(), _sp()
    first = _steps(net, sp, lambda loss: loss.backward(), range(at))
    state, sp = sp.state_dict(), _sp(seed=0)
    sp.load_state_dict(state)
    rest = _steps(_net(), sp, lambda loss: loss.backward(), range(at, 7))
    assert all(torch.equal(*each) for each in zip(whole, first + rest, strict=True))


def test_it_can_be_copied_and_pickled_in_the_middle_of_a_measurement():
    net, sp = _net(), _sp()
    (loss_of(net) + sp(net, IMAGES, step=0).loss).backward()
    for twin in (copy.deepcopy(sp), pickle.loads(pickle.dumps(sp))):
        assert torch.equal(twin.balance.seen, sp.balance.seen) and twin.balance.seen.all()


def test_weight_0_a_plain_weight_and_no_gradients_measure_nothing():
    net = _net()
    for sp in (_sp(0.0), _sp(relative_weight=False)):
        assert torch.equal(_steps(net, sp, lambda loss: loss.backward())[0], _plain(net)) is (
            sp.config.weight == 0
        )
        assert sp.balance.log_ratio == -math.inf
    sp = _sp()
    with torch.no_grad():
        sp(net, IMAGES, step=0)
    assert sp.balance.log_ratio == -math.inf and not sp.balance.seen.any()


def test_a_backbone_that_is_frozen_for_a_while_is_not_related_to():
    net, sp = _net().requires_grad_(False), _sp()
    for step in range(3):
        out = sp(net, IMAGES, step=step)
        assert out.loss == 0
        out.loss.backward()
    _steps(net.requires_grad_(), sp, lambda loss: loss.backward(), (64, 65))
    assert sp.balance.log_ratio.isfinite()


def test_a_compiled_backbone_is_measured_like_any_other():
    net, sp = _net(nn.BatchNorm2d(8)), _sp()
    _steps(net, sp, lambda loss: loss.backward(), range(2))
    sp.balance.loss_scale(2)
    same, twin = _net(nn.BatchNorm2d(8)), _sp()
    compiled: Any = torch.compile(same, backend="aot_eager")
    _steps(compiled, twin, lambda loss: loss.backward(), range(2))
    twin.balance.loss_scale(2)
    torch.testing.assert_close(twin.balance.log_ratio, sp.balance.log_ratio)


class Checkpointed(nn.Module):
    def __init__(self, reentrant: bool) -> None:
        super().__init__()
        self.net, self.reentrant = _net(), reentrant

    def forward(self, images: Tensor) -> Tensor:
        images = images.detach().requires_grad_()
        out: Tensor = checkpoint(self.net, images, use_reentrant=self.reentrant)
        return out


def test_a_checkpointed_backbone_is_measured_or_refused_in_one_line():
    net, sp = Checkpointed(False), _sp()
    _steps(net, sp, lambda loss: loss.backward())
    plain = _sp()
    _steps(_net(), plain, lambda loss: loss.backward())
    assert torch.equal(sp.balance.log_ratio, plain.balance.log_ratio)
    with pytest.raises(
        ConfigError, match=r"^relative: got true, but .*use_reentrant=True.*; takes"
    ):
        _sp()(Checkpointed(True), IMAGES, step=0)
    plain = _sp(relative_weight=False)
    assert plain(Checkpointed(True), IMAGES, step=0).loss > 0


def test_a_checkpointed_batchnorm_takes_update_bn():
    net = Checkpointed(False)
    net.net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 8, 3))
    with pytest.raises(ConfigError, match=r"^update_bn: got false, but .*; takes true"):
        _sp()(net, IMAGES, step=0)
    sp = _sp(update_bn=True)
    _steps(net, sp, lambda loss: loss.backward())
    assert sp.balance.log_ratio.isfinite()


def test_a_balance_by_hand():
    backbone, head, balance = nn.Linear(3, 1, bias=False), nn.Linear(1, 1), GradientBalance()
    for step, host, expected in ((0, 10, 2.5), (4, 160, 5.0)):
        total = backbone(torch.tensor([[1.0, 2.0, 2.0]])).sum()  # a gradient of norm 3
        none = balance.measure(4 * total, backbone, head, keep=True)
        (host * total + none).backward()
        # Sixteen times as large at last: at most twice of that is taken at once.
        torch.testing.assert_close(balance.loss_scale(step + 1), torch.tensor(expected))
