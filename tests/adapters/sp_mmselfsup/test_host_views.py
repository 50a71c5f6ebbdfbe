"""source="host_views": SP on the features that the algorithm computes anyway, in Runners."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mm_configs
import mm_resume
import mm_stand_ins
import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from sp_mmselfsup import recipe

from sp_plugin import SpatialPrediction, SPOutput
from sp_plugin.objective.targets import target_std_of_views

ON = {"weight": 1.0, "warmup_fraction": 0.0, "source": "host_views"}
ROWS: list[int] = []


@HOOKS.register_module(force=True)
class CountRows(Hook):
    """Records the number of rows of each call of the backbone."""

    def before_run(self, runner: Any) -> None:
        ROWS.clear()
        mm_configs.model_of(runner).backbone.register_forward_hook(
            lambda _, args, __: ROWS.append(len(args[0]))
        )


def with_views(config: Config) -> None:
    mm_configs.with_views(config)
    count_rows(config)


def count_rows(config: Config) -> None:
    mm_stand_ins.shallow(config)
    config.custom_hooks = [*config.get("custom_hooks", []), {"type": "mmengine.CountRows"}]


@pytest.fixture(scope="module", params=("simclr", "byol", "swav", "mocov3"))
def runs(request: Any, train: Any) -> Any:
    """Name of an algorithm; its Runners without SP, with SP, with weight 0; rows of each."""
    rows, runners = [], []
    for sp in (None, ON, {**ON, "weight": 0}):
        runners.append(train(request.param, sp, with_views if sp else count_rows))
        rows.append(list(ROWS))
    return request.param, runners, rows


def test_weight_0_equals_baseline(runs: Any) -> None:
    _, (baseline, _, off), _ = runs
    final = mm_configs.without_sp(off.model.state_dict())
    assert mm_configs.same(final, dict(baseline.model.state_dict()))


def test_sp_trains_backbone_and_head(runs: Any) -> None:
    _, (baseline, on, _), _ = runs
    before, after = baseline.model.state_dict(), on.model.state_dict()
    assert all(value.isfinite().all() for value in after.values())
    moved = [key for key in before if not torch.equal(before[key], after[key])]
    assert any(key.startswith("backbone.") for key in moved)
    fresh = SpatialPrediction(on.model.sp.feature_dim, on.model.sp.user_config)
    for key, value in fresh.head.state_dict().items():
        assert not torch.equal(value, on.model.sp.head.state_dict()[key]), f"{key} did not move"


def test_backbone_encodes_no_extra_rows(runs: Any) -> None:
    _, _, (baseline, on, off) = runs
    assert baseline and baseline == on == off


def test_target_std_comes_from_pipeline(runs: Any) -> None:
    name, (_, on, _), _ = runs
    (pipeline,) = on.train_dataloader.dataset.pipeline.transforms
    local = slice(2, 8) if name == "swav" else slice(0, 2)
    std = target_std_of_views(pipeline.sample_boxes()[:, local], "symmetric")
    assert torch.equal(on.model.sp.targets.std, std)


def test_logged_losses_sum_and_are_finite(runs: Any) -> None:
    _, (_, on, _), _ = runs
    inputs, samples = on.model.data_preprocessor(next(iter(on.train_dataloader)), True)
    for sample in samples:  # one of each pair is flipped both ways: R2 of dx and dy is undefined
        sample.sp_flips = torch.where(torch.arange(len(inputs)) % 2 == 0, 1.0, -1.0)
        sample.sp_flips = sample.sp_flips[:, None].expand(-1, 2)
    losses = on.model.loss(inputs, samples)
    total, logged = on.model.parse_losses(losses)
    assert torch.equal(total, losses["loss"] + losses["sp_loss"])
    assert {
        "sp_weight",
        "sp_skipped_fraction",
        "sp_r2_dx",
        "sp_r2_dy",
        "sp_r2_scale",
    } <= logged.keys()
    assert all(torch.isfinite(torch.as_tensor(value)).all() for value in logged.values())
    assert logged["sp_skipped_fraction"] == 0
    assert not on.model._session._capture._calls, "the graph of a step is kept"


@pytest.mark.parametrize("name", ("simclr", "swav"))
def test_features_match_their_view_boxes(train: Any, name: str) -> None:
    """Each view is encoded again alone: in evaluation mode BatchNorm does not mix rows."""

    def freeze_norm(config: Config) -> None:
        with_views(config)
        config.model.backbone.norm_eval = True

    inputs: list[Any] = []
    runner = train(name, ON, freeze_norm)
    model = runner.model.train()
    model.sp.register_forward_pre_hook(lambda _, args: inputs.append(args[1]))
    batch = model.data_preprocessor(next(iter(runner.train_dataloader)), True)
    model.loss(*batch)
    selected = range(2, 8) if name == "swav" else range(2)
    ((features, boxes, flips),) = inputs
    for index, view in enumerate(selected):
        alone = model.backbone(batch[0][view])[-1].mean(dim=(2, 3))
        assert torch.allclose(features[index], alone, atol=1e-4)
        for row, sample in enumerate(batch[1]):
            assert torch.equal(boxes[index, row], sample.sp_boxes[view])
            assert torch.equal(flips[index, row], sample.sp_flips[view])


@pytest.mark.parametrize("name", ("byol", "swav"))
def test_mmpretrain_meets_contract(train: Any, name: str, monkeypatch: Any) -> None:
    path, changes = mm_configs.SMALL[name]
    path = path.replace("byol_resnet50_8xb32-accum16-coslr", "byol_resnet50_16xb256-coslr")
    path = path.replace("mcrop-2-6-coslr-200e_in1k-224-96", "mcrop-coslr-200e_in1k-224px-96px")
    monkeypatch.setitem(mm_configs.SMALL, name, (path, changes))
    baseline = train(name, None, count_rows, framework="mmpretrain").model
    rows = list(ROWS)
    on = train(name, ON, with_views, framework="mmpretrain").model
    assert rows == ROWS
    off = train(name, {**ON, "weight": 0}, with_views, framework="mmpretrain").model
    assert type(baseline).__module__.startswith("mmpretrain.")
    assert mm_configs.same(mm_configs.without_sp(off.state_dict()), dict(baseline.state_dict()))
    assert not mm_configs.same(mm_configs.without_sp(on.state_dict()), dict(baseline.state_dict()))


def test_resumed_run_equals_uninterrupted(train: Any, tmp_path: Path) -> None:
    resumed, whole = mm_resume.resumed_and_uninterrupted(train, "byol", ON, tmp_path, with_views)
    assert mm_configs.same(resumed, whole)


@pytest.mark.parametrize("framework", ("mmselfsup", "mmpretrain"))
def test_swav_recipe_trains(framework: str, data: Path, tmp_path: Path) -> None:
    config = Config.fromfile(recipe(f"{framework}/swav_host_views"))
    count_rows(config)
    runner = mm_configs.trained(mm_configs.shrink(config, data, tmp_path))
    assert runner.iter == mm_configs.STEPS
    assert float(runner.message_hub.get_scalar("train/sp_skipped_fraction").current()) == 0
    assert runner.model.sp.config.source == "host_views"


def test_pairs_use_all_smallest_views(train: Any) -> None:
    seen: list[SPOutput] = []
    train("swav", ON, with_views, sp_hook=lambda *call: seen.append(call[-1]))
    assert len(seen) == mm_configs.STEPS
    for out in seen:
        assert out.boxes.shape == (2, 15 * 2, 4)  # pairs of six views, two images
        assert (out.boxes[..., 2] * out.boxes[..., 3]).max() < 0.15
    train("swav", {**ON, "num_pairs": 4}, with_views, sp_hook=lambda *call: seen.append(call[-1]))
    assert seen[-1].boxes.shape == (2, 4 * 2, 4)


def test_ema_copy_has_no_capture(train: Any) -> None:
    """MMEngine's EMAHook copies the whole algorithm before the first step."""

    def with_ema(config: Config) -> None:
        with_views(config)
        config.custom_hooks.append({"type": "EMAHook", "momentum": 0.1})

    hooks = train("byol", ON, with_ema).hooks
    (hook,) = [hook for hook in hooks if type(hook).__name__ == "EMAHook"]
    assert hook.ema_model.module._session is None
