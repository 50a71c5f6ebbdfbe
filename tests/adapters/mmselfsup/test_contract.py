"""The contract that every adapter passes, for real Runners of MMSelfSup and MMPretrain."""

from __future__ import annotations

import dataclasses
from typing import Any

import mm_hosts
import pytest
import torch

from sp_plugin import SpatialPrediction

ON = {"weight": 1.0, "warmup_fraction": 0.0}
NAMES = tuple(mm_hosts.SMALL)


@pytest.fixture(scope="module", params=NAMES)
def runs(request: Any, train: Any) -> Any:
    """An algorithm's name, and its Runners after training: without SP, with it, at weight 0."""
    name = request.param
    return name, *(train(name, sp) for sp in (None, ON, {"weight": 0}))


def test_weight_0_ends_in_the_baselines_weights_and_buffers(runs: Any) -> None:
    _, baseline, _, off = runs
    ended = mm_hosts.without_sp(off.model.state_dict())
    assert mm_hosts.same(ended, dict(baseline.model.state_dict()))


def test_sp_trains_backbone_and_head(runs: Any) -> None:
    _, baseline, runner, _ = runs
    on = runner.model
    before, after = baseline.model.state_dict(), on.state_dict()
    assert all(value.isfinite().all() for value in after.values())
    moved = [key for key in before if not torch.equal(before[key], after[key])]
    assert any(key.startswith("backbone.") for key in moved)
    fresh = SpatialPrediction(on.sp.feature_dim, on.sp.given)
    for key, value in fresh.head.state_dict().items():
        assert not torch.equal(value, on.sp.head.state_dict()[key]), f"{key} did not move"


def test_keys_are_the_baselines_and_then_sps(runs: Any) -> None:
    _, baseline, on, off = runs
    for runner in (on, off):
        keys = list(runner.model.state_dict())
        theirs = list(baseline.model.state_dict())
        assert keys[: len(theirs)] == theirs
        ours = keys[len(theirs) :]
        assert ours and all(key.startswith("sp.") for key in ours)
        assert not any("backbone" in key or "encoder" in key for key in ours)


def test_the_sum_that_is_trained_is_the_hosts_and_sps(runs: Any, monkeypatch: Any) -> None:
    _, _, runner, _ = runs
    on = runner.model
    monkeypatch.setattr(on.sp, "config", dataclasses.replace(on.sp.config, relative_weight=False))
    losses = on.loss(*on.data_preprocessor(next(iter(runner.train_dataloader)), True))
    total, logged = on.parse_losses(losses)
    assert {key for key in logged if "loss" in key} == {"loss", "sp_loss"}
    assert torch.equal(total, losses["loss"] + losses["sp_loss"])
    assert losses["sp_loss"] > 0
    torch.testing.assert_close(losses["sp_loss"], losses["sp_unweighted"] * losses["sp_weight"])
    assert {
        "sp_weight",
        "sp_skipped_fraction",
        "sp_r2_dx",
        "sp_r2_dy",
        "sp_r2_scale",
    } <= logged.keys()


def test_targets_hold_nothing_of_sp(runs: Any) -> None:
    _, _, on, _ = runs
    parts = [path for path, part in on.model.named_modules() if isinstance(part, SpatialPrediction)]
    assert parts == ["sp"]


def test_crops_are_encoded_at_the_size_that_suits_the_views(runs: Any) -> None:
    name, _, on, _ = runs
    sizes = {"simclr": 32, "byol": 32, "swav": 32, "mocov3": 96, "mae": 96, "simmim": 192}
    assert on.model.sp.config.crop_size == sizes[name]


@pytest.mark.parametrize("name", ("byol", "mae"))
def test_mmpretrain_passes_it_too(train: Any, name: str, monkeypatch: Any) -> None:
    path, changes = mm_hosts.SMALL[name]
    path = path.replace("byol_resnet50_8xb32-accum16-coslr", "byol_resnet50_16xb256-coslr")
    monkeypatch.setitem(mm_hosts.SMALL, name, (path, changes))
    baseline = train(name, host="mmpretrain").model
    off = train(name, {"weight": 0}, host="mmpretrain").model
    on = train(name, ON, host="mmpretrain").model
    assert type(baseline).__module__.startswith("mmpretrain.")
    assert mm_hosts.same(mm_hosts.without_sp(off.state_dict()), dict(baseline.state_dict()))
    assert not mm_hosts.same(mm_hosts.without_sp(on.state_dict()), dict(baseline.state_dict()))
    assert on.sp.config.crop_size == {"byol": 32, "mae": 96}[name]


def test_only_the_gradient_differs(train: Any) -> None:
    """At any weight the host draws the same numbers, and SP's crops leave its buffers alone."""

    def run(sp: Any = None) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        def one_step(config: Any) -> None:
            config.train_cfg = {"by_epoch": False, "max_iters": 1}
            config.param_scheduler = []

        model = train("byol", sp, one_step).model
        buffers = {k: v for k, v in model.named_buffers() if not k.startswith("sp.")}
        return torch.get_rng_state(), buffers

    state, buffers = run()
    state_sp, buffers_sp = run(ON)
    assert torch.equal(state, state_sp)
    assert mm_hosts.same(buffers, buffers_sp)
    _, moved = run({**ON, "update_bn": True})
    assert not mm_hosts.same(buffers, moved)


def test_the_hosts_rules_of_initialisation_leave_sp_alone(train: Any) -> None:
    """An algorithm with rules of its own applies them to all of its parts."""

    def rules(config: Any) -> None:
        config.model.init_cfg = {"type": "TruncNormal", "layer": "Linear", "std": 0.02, "bias": 0}

    baseline = train("mae", None, rules).model.state_dict()
    off = train("mae", {"weight": 0}, rules).model
    assert mm_hosts.same(mm_hosts.without_sp(off.state_dict()), dict(baseline))
    fresh = SpatialPrediction(off.sp.feature_dim, off.sp.given).head.state_dict()
    assert mm_hosts.same(dict(off.sp.head.state_dict()), dict(fresh))
    assert not mm_hosts.same(dict(train("mae").model.state_dict()), dict(baseline))
