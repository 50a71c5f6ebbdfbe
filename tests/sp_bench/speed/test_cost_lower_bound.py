"""The lower bound, worked by hand, and the operations of the timed arms."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from sp_bench.flops import count_flops
from sp_bench.speed.cases import (
    ALONE,
    HOST_VIEWS,
    PEER_ARMS,
    PROBE,
    SP,
    WHOLE,
    Arm,
    Case,
    k_arms,
    sp_arms,
    step_cases,
)
from sp_bench.speed.cost_lower_bound import CostLowerBound, count_lower_bound
from sp_bench.speed.settings import SpeedSettings
from sp_bench.speed.step_benchmark import TimedArm
from torch import nn

from sp_plugin import SPConfig

SETTINGS = SpeedSettings(device="cpu", quick=True)
CASE = Case("simclr", "tiny_resnet", 32, 4)


def make_lower_bound(backbone: nn.Module, **sp: Any) -> CostLowerBound:
    method: Any = SimpleNamespace(backbone=backbone)
    return CostLowerBound(Case("simclr", "one layer", 16, 2), SETTINGS, method, sp)


def test_lower_bound_of_one_layer_by_hand() -> None:
    # A 1x1 convolution of 3 to 8 channels: 48 operations a pixel forward, 48 for the weights'
    # gradient, none for the images'. The host sees 2 images of 16 x 16 twice, SP 4 of 8 x 8.
    backbone = nn.Conv2d(3, 8, 1, bias=False)
    views = torch.rand(2, 2, 3, 16, 16)

    def host() -> None:
        sum(backbone(view).sum() for view in views).backward()

    found = count_lower_bound(host, make_lower_bound(backbone, crop_size=8, num_crops=2).run_crops)
    assert found == {
        "host": 96 * 2 * 2 * 16 * 16,
        "crops": 96 * 4 * 8 * 8,
        "lower_bound": 1 + (4 * 64) / (4 * 256),
    }


@pytest.mark.parametrize("crops", [2, 5])
def test_lower_bound_grows_with_num_crops(crops: int) -> None:
    floor = make_lower_bound(nn.Conv2d(3, 8, 1, bias=False), crop_size=8, num_crops=crops)
    assert count_flops(floor.run_crops) == 96 * crops * 2 * 8 * 8


def test_sp_parts_exclude_backbone_passes() -> None:
    backbone = nn.Conv2d(3, 8, 1, bias=False)
    floor = make_lower_bound(
        backbone, crop_size=8, hidden_dim=16, num_crops=2, relative_weight=False
    )
    calls: list[Any] = []
    backbone.register_forward_hook(lambda *_: calls.append(_))
    total, drawing = count_flops(floor.run_parts), count_flops(floor.sample_crops)
    assert not calls and drawing > 0
    # The head's three layers see a pair both ways: (16 + 16 + 3) x 16 products for each of 4 rows;
    # backward for the weights and for the inputs.
    head = 2 * 4 * (16 * 16 + 16 * 16 + 16 * 3)
    assert total - drawing == 3 * head


def flops_per_step(arm: Arm) -> float:
    """Operations of one step of an arm, without those of the setup."""
    fitted = TimedArm(CASE, arm, SETTINGS)
    fitted.fit(1)  # finds the input size of the backbone
    once, twice = (count_flops(lambda n=n: fitted.fit(n)) for n in (1, 2))  # type: ignore[misc]
    return twice - once


def with_settings(arm: Arm, **settings: Any) -> Arm:
    """The arm with further settings."""
    return dataclasses.replace(arm, sp={**(arm.sp or {}), **settings})


def rows_per_step(arm: Arm, case: Case) -> int:
    """Number of images that the student encodes in one step."""
    fitted = TimedArm(case, arm, SETTINGS)
    fitted.fit(1)
    rows: list[int] = []
    last: Any = fitted.method.backbone.layer4
    last.register_forward_hook(lambda *call: rows.append(len(call[-1])))
    fitted.fit(1)
    once = sum(rows)
    fitted.fit(2)
    return sum(rows) - 2 * once


@pytest.mark.parametrize("relative", [True, False])
def test_sp_step_adds_only_crop_passes(relative: bool) -> None:
    # Of steps 2 and 3, less step 1: a relative weight is measured in step 2, and costs no more.
    # Two crops, since the head has as many operations as pairs.
    sp = with_settings(SP, num_crops=2, relative_weight=relative, warmup_fraction=0)
    host, with_sp = flops_per_step(ALONE), flops_per_step(sp)
    backbone: Any = TimedArm(CASE, ALONE, SETTINGS).method
    crops = count_flops(CostLowerBound(CASE, SETTINGS, backbone, sp.sp or {}).run_crops)
    # A weight that were still 0 would leave the backward pass out: a third would be there.
    assert crops <= with_sp - host <= 1.15 * crops


def test_default_arm_encodes_fewer_crops() -> None:
    case = dataclasses.replace(CASE, batch_size=24)
    alone, *others = (rows_per_step(arm, case) for arm in (ALONE, WHOLE, SP, PROBE))
    assert [rows - alone for rows in others] == [4 * 24, 4 * 3, 4 * 3]
    bound = CostLowerBound(case, SETTINGS, TimedArm(case, ALONE, SETTINGS).method, SP.sp or {})
    assert bound.share == 1 / 8


@pytest.mark.parametrize("method", ["simclr", "dino"])
def test_host_views_add_no_backbone_pass(method: str) -> None:
    case = Case(method, "tiny_resnet", 32, 4)
    assert HOST_VIEWS in sp_arms(case)
    fitted = TimedArm(case, with_settings(HOST_VIEWS, relative_weight=False), SETTINGS)
    fitted.fit(1)
    gradients: list[float] = []
    weight = fitted.callbacks[0].sp.head.mlp[0].weight
    weight.register_hook(lambda grad: gradients.append(float(grad.abs().sum())))
    fitted.fit(2)
    assert gradients[-1] > 0
    assert rows_per_step(HOST_VIEWS, case) == rows_per_step(ALONE, case) < rows_per_step(SP, case)


@pytest.mark.parametrize("arm", PEER_ARMS, ids=lambda arm: arm.name)
def test_peers_train_and_restore_the_host(arm: Arm) -> None:
    fitted = TimedArm(CASE, arm, SETTINGS)
    before = set(fitted.method.state_dict())
    peer = fitted.callbacks[0]._peer
    weights = [each.clone() for each in peer.parameters()]
    assert len(fitted()) == 1 and fitted()[0] > 0
    assert set(fitted.method.state_dict()) == before
    assert "training_step" not in fitted.method.__dict__
    assert not fitted.method.backbone.layer4._forward_hooks
    moved = [not torch.equal(*pair) for pair in zip(weights, peer.parameters(), strict=True)]
    assert all(moved)
    assert flops_per_step(arm) > flops_per_step(ALONE)


def test_every_arm_and_case_can_be_built() -> None:
    for settings in (SETTINGS, SpeedSettings(device="cpu")):
        assert {case.method for case in step_cases(settings)} >= {"simclr", "mae"}
        for arm in k_arms(settings):
            SPConfig.from_dict(arm.sp)
    names = [arm.name for arm in k_arms(SpeedSettings(device="cpu"))]
    assert names[1] == "3 crops, all 3 pairs" and names[-1] == "8 crops, 1 pair"
    assert len(names) == 13
