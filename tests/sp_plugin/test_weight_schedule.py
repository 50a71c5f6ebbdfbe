"""The weight during training, and a weight of 0."""

from __future__ import annotations

import itertools
import math

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from sp_plugin import SpatialPrediction, SPConfig

IMAGES = torch.randn(6, 3, 40, 40, generator=torch.Generator().manual_seed(0))


def _net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.BatchNorm2d(8), nn.ReLU())


def _sp(**settings) -> SpatialPrediction:
    return SpatialPrediction(
        8,
        SPConfig.from_dict(
            {"crop_size": 16, "hidden_dim": 32, "relative_weight": False, **settings}
        ),
    )


@given(st.floats(0.01, 100), st.floats(0, 1), st.floats(0, 1))
def test_weight_is_bounded_and_continuous(weight, warmup, rest):
    cooldown = rest * (1 - warmup)
    sp = SpatialPrediction.__new__(SpatialPrediction)
    nn.Module.__init__(sp)
    config = SPConfig(weight=weight, warmup_fraction=warmup, cooldown_fraction=cooldown)
    sp.config = config.resolve(64)
    steps = 400
    values = [sp.weight(step / steps) for step in range(steps + 1)]
    assert all(0 <= value <= weight for value in values)
    slope = max(1 / part if part else 0 for part in (warmup, cooldown)) * weight / steps
    changes = [abs(after - before) for before, after in itertools.pairwise(values)]
    assert max(changes) <= slope * (1 + 1e-6) + 1e-9
    assert values[0] == (0 if warmup else weight) or cooldown == 1
    assert math.isclose(values[-1], 0 if cooldown else weight, abs_tol=1e-9)


def test_before_warmup_head_gradient_is_zero():
    net, sp = _net(), _sp(warmup_fraction=0.1)
    out = sp(net, IMAGES, step=0, progress=0.0)
    assert out.loss == 0 and out.metrics["loss"] > 0 and out.metrics["weight"] == 0
    out.loss.backward()
    for parameter in sp.parameters():
        assert parameter.grad is not None and not parameter.grad.any()
    assert all(parameter.grad is None for parameter in net.parameters())


def test_weight_0_freezes_the_head():
    net, sp = _net(), _sp(weight=0)
    out = sp(net, IMAGES, step=0)
    assert out.loss == 0 and not out.loss.requires_grad
    assert not any(parameter.requires_grad for parameter in sp.parameters())
    (out.loss + net(IMAGES).sum()).backward()  # the sum with the host's loss still trains the host
