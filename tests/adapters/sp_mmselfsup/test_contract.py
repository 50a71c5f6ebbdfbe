"""The contract of every adapter, for Runners of MMSelfSup and MMPretrain."""

from __future__ import annotations

import dataclasses
from typing import Any

import mm_configs
import pytest
import torch

from sp_plugin import SpatialPrediction

ON = {"weight": 1.0, "warmup_fraction": 0.0}
NAMES = tuple(mm_configs.SMALL)


@pytest.fixture(scope="module", params=NAMES)
def runs(request: Any, train: Any) -> Any:
    """Name of an algorithm, and its Runners after training: without SP, with SP, with weight 0."""
    name = request.param
    return name, *(train(name, sp) for sp in (None, ON, {"weight": 0}))


def test_weight_0_equals_baseline(runs: Any) -> None:
    _, baseline, _, off = runs
    final = mm_configs.without_sp(off.model.state_dict())
    assert mm_configs.same(final, dict(baseline.model.state_dict()))


def test_sp_trains_backbone_and_head(runs: Any) -> None:
    _, baseline, runner, _ = runs
    on = runner.model
    before, after = baseline.model.state_dict(), on.state_dict()
    assert all(value.isfinite().all() for value in after.values())
    moved = [key for key in before if not torch.equal(before[key], after[key])]
    assert any(key.startswith("backbone.") for key in moved)
    fresh = SpatialPrediction(on.sp.feature_dim, on.sp.user_config)
    for key, value in fresh.head.state_dict().items():
        assert not torch.equal(value, on.sp.head.state_dict()[key]), f"{key} did not move"


def test_sp_keys_follow_baseline_keys(runs: Any) -> None:
    _, baseline, on, off = runs
    for runner in (on, off):
        keys = list(runner.model.state_dict())
        baseline_keys = list(baseline.model.state_dict())
        assert keys[: len(baseline_keys)] == baseline_keys
        sp_keys = keys[len(baseline_keys) :]
        assert sp_keys and all(key.startswith("sp.") for key in sp_keys)
        assert not any("backbone" in key or "encoder" in key for key in sp_keys)


def test_total_loss_is_host_plus_sp(runs: Any, monkeypatch: Any) -> None:
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


def test_sp_acts_in_training_alone(runs: Any) -> None:
    _, _, runner, _ = runs
    on, step = runner.model, runner.model._session.step
    batch = on.data_preprocessor(next(iter(runner.train_dataloader)), True)
    for is_training, has_grad in ((False, True), (True, False)):
        with torch.set_grad_enabled(has_grad):
            losses = on.train(is_training).loss(*batch)
        assert losses and not any(key.startswith("sp_") for key in losses)
    assert on.train()._session.step == step


def test_teacher_contains_no_sp(runs: Any) -> None:
    _, _, on, _ = runs
    parts = [path for path, part in on.model.named_modules() if isinstance(part, SpatialPrediction)]
    assert parts == ["sp"]


def test_crop_size_follows_view_size(runs: Any) -> None:
    name, _, on, _ = runs
    sizes = {"simclr": 32, "byol": 32, "swav": 32, "mocov3": 96, "mae": 96, "simmim": 192}
    assert on.model.sp.config.crop_size == sizes[name]


@pytest.mark.parametrize("name", ("byol", "mae"))
def test_mmpretrain_meets_contract(train: Any, name: str, monkeypatch: Any) -> None:
    path, changes = mm_configs.SMALL[name]
    path = path.replace("byol_resnet50_8xb32-accum16-coslr", "byol_resnet50_16xb256-coslr")
    monkeypatch.setitem(mm_configs.SMALL, name, (path, changes))
    baseline = train(name, framework="mmpretrain").model
    off = train(name, {"weight": 0}, framework="mmpretrain").model
    on = train(name, ON, framework="mmpretrain").model
    assert type(baseline).__module__.startswith("mmpretrain.")
    assert mm_configs.same(mm_configs.without_sp(off.state_dict()), dict(baseline.state_dict()))
    assert not mm_configs.same(mm_configs.without_sp(on.state_dict()), dict(baseline.state_dict()))
    assert on.sp.config.crop_size == {"byol": 32, "mae": 96}[name]


def test_only_the_gradient_differs(train: Any) -> None:
    """At any weight the host draws the same numbers and has the same buffers."""

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
    assert mm_configs.same(buffers, buffers_sp)
    _, moved = run({**ON, "update_bn": True})
    assert not mm_configs.same(buffers, moved)


def test_init_cfg_does_not_change_sp(train: Any) -> None:
    """An algorithm with an ``init_cfg`` applies it to all of its submodules, except SP."""

    def rules(config: Any) -> None:
        config.model.init_cfg = {"type": "TruncNormal", "layer": "Linear", "std": 0.02, "bias": 0}

    baseline = train("mae", None, rules).model.state_dict()
    off = train("mae", {"weight": 0}, rules).model
    assert mm_configs.same(mm_configs.without_sp(off.state_dict()), dict(baseline))
    fresh = SpatialPrediction(off.sp.feature_dim, off.sp.user_config).head.state_dict()
    assert mm_configs.same(dict(off.sp.head.state_dict()), dict(fresh))
    assert not mm_configs.same(dict(train("mae").model.state_dict()), dict(baseline))
