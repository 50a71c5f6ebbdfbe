"""source="host_views": SP on the embeddings that the algorithm computes anyway, through real Runners."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mm_hosts
import mm_resume
import mm_stand_ins
import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from sp_mmselfsup import recipe
from sp_plugin.objective.flips import target_std_of_views

from sp_plugin import SpatialPrediction, SPOutput

ON = {"weight": 1.0, "warmup_fraction": 0.0, "source": "host_views"}
ROWS: list[int] = []


@HOOKS.register_module(force=True)
class CountRows(Hook):
    """What passes through the backbone in training."""

    def before_run(self, runner: Any) -> None:
        ROWS.clear()
        mm_hosts.model_of(runner).backbone.register_forward_hook(
            lambda _, given, __: ROWS.append(len(given[0]))
        )


def with_views(config: Config) -> None:
    mm_hosts.with_views(config)
    counted(config)


def counted(config: Config) -> None:
    mm_stand_ins.shallow(config)
    config.custom_hooks = [*config.get("custom_hooks", []), {"type": "mmengine.CountRows"}]


@pytest.fixture(scope="module", params=("simclr", "byol", "swav", "mocov3"))
def runs(request: Any, train: Any) -> Any:
    """An algorithm's name; its Runners after training, without SP, with it, at weight 0; rows."""
    rows, runners = [], []
    for sp in (None, ON, {**ON, "weight": 0}):
        runners.append(train(request.param, sp, with_views if sp else counted))
        rows.append(list(ROWS))
    return request.param, runners, rows


def test_weight_0_ends_in_the_baselines_weights_and_buffers(runs: Any) -> None:
    _, (baseline, _, off), _ = runs
    ended = mm_hosts.without_sp(off.model.state_dict())
    assert mm_hosts.same(ended, dict(baseline.model.state_dict()))


def test_sp_trains_backbone_and_head(runs: Any) -> None:
    _, (baseline, on, _), _ = runs
    before, after = baseline.model.state_dict(), on.model.state_dict()
    assert all(value.isfinite().all() for value in after.values())
    moved = [key for key in before if not torch.equal(before[key], after[key])]
    assert any(key.startswith("backbone.") for key in moved)
    fresh = SpatialPrediction(on.model.sp.feature_dim, on.model.sp.given)
    for key, value in fresh.head.state_dict().items():
        assert not torch.equal(value, on.model.sp.head.state_dict()[key]), f"{key} did not move"


def test_no_row_more_passes_through_the_backbone(runs: Any) -> None:
    _, _, (baseline, on, off) = runs
    assert baseline and baseline == on == off


def test_targets_are_measured_by_the_pipelines_own_boxes(runs: Any) -> None:
    name, (_, on, _), _ = runs
    (pipeline,) = on.train_dataloader.dataset.pipeline.transforms
    local = slice(2, 8) if name == "swav" else slice(0, 2)
    spread = target_std_of_views(pipeline.sample_boxes()[:, local], "symmetric")
    assert torch.equal(on.model.sp.targets.std, spread)


def test_what_is_logged_is_finite_and_sums_to_what_is_trained(runs: Any) -> None:
    _, (_, on, _), _ = runs
    inputs, samples = on.model.data_preprocessor(next(iter(on.train_dataloader)), True)
    for sample in samples:  # one of each pair is mirrored both ways: there is no R2 of dx and dy
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
    assert not on.model._host._watch._calls, "a step's graph is kept"


@pytest.mark.parametrize("name", ("simclr", "swav"))
def test_features_are_of_the_view_whose_box_they_are_told_with(train: Any, name: str) -> None:
    """Encoded again, view by view: BatchNorm off, that a batch's other rows do not matter."""

    def still(config: Config) -> None:
        with_views(config)
        config.model.backbone.norm_eval = True

    asked: list[Any] = []
    runner = train(name, ON, still)
    model = runner.model.train()
    model.sp.register_forward_pre_hook(lambda _, given: asked.append(given[1]))
    batch = model.data_preprocessor(next(iter(runner.train_dataloader)), True)
    model.loss(*batch)
    numbers = range(2, 8) if name == "swav" else range(2)
    ((features, boxes, flips),) = asked
    for index, number in enumerate(numbers):
        alone = model.backbone(batch[0][number])[-1].mean(dim=(2, 3))
        assert torch.allclose(features[index], alone, atol=1e-4)
        for row, sample in enumerate(batch[1]):
            assert torch.equal(boxes[index, row], sample.sp_boxes[number])
            assert torch.equal(flips[index, row], sample.sp_flips[number])


@pytest.mark.parametrize("name", ("byol", "swav"))
def test_mmpretrain_passes_it_too(train: Any, name: str, monkeypatch: Any) -> None:
    path, changes = mm_hosts.SMALL[name]
    path = path.replace("byol_resnet50_8xb32-accum16-coslr", "byol_resnet50_16xb256-coslr")
    path = path.replace("mcrop-2-6-coslr-200e_in1k-224-96", "mcrop-coslr-200e_in1k-224px-96px")
    monkeypatch.setitem(mm_hosts.SMALL, name, (path, changes))
    baseline = train(name, None, counted, host="mmpretrain").model
    rows = list(ROWS)
    on = train(name, ON, with_views, host="mmpretrain").model
    assert rows == ROWS
    off = train(name, {**ON, "weight": 0}, with_views, host="mmpretrain").model
    assert type(baseline).__module__.startswith("mmpretrain.")
    assert mm_hosts.same(mm_hosts.without_sp(off.state_dict()), dict(baseline.state_dict()))
    assert not mm_hosts.same(mm_hosts.without_sp(on.state_dict()), dict(baseline.state_dict()))


def test_a_resumed_run_ends_as_an_uninterrupted_one(train: Any, tmp_path: Path) -> None:
    resumed, whole = mm_resume.ends(train, "byol", ON, tmp_path, with_views)
    assert mm_hosts.same(resumed, whole)


@pytest.mark.parametrize("host", ("mmselfsup", "mmpretrain"))
def test_the_recipe_trains(host: str, data: Path, tmp_path: Path) -> None:
    config = Config.fromfile(recipe(f"{host}/swav_host"))
    counted(config)
    runner = mm_hosts.trained(mm_hosts.shrink(config, data, tmp_path))
    assert runner.iter == mm_hosts.STEPS
    assert float(runner.message_hub.get_scalar("train/sp_skipped_fraction").current()) == 0
    assert runner.model.sp.config.source == "host"


def test_pairs_are_of_the_most_local_views_and_of_all_of_them(train: Any) -> None:
    seen: list[SPOutput] = []
    train("swav", ON, with_views, watch=lambda *call: seen.append(call[-1]))
    assert len(seen) == mm_hosts.STEPS
    for out in seen:
        assert out.boxes.shape == (2, 15 * 2, 4)  # pairs of six views, two images
        assert (out.boxes[..., 2] * out.boxes[..., 3]).max() < 0.15
    train("swav", {**ON, "num_pairs": 4}, with_views, watch=lambda *call: seen.append(call[-1]))
    assert seen[-1].boxes.shape == (2, 4 * 2, 4)


def test_copies_of_the_model_have_no_part_in_it(train: Any) -> None:
    """MMEngine's EMAHook copies the whole algorithm before the first step."""

    def averaged(config: Config) -> None:
        with_views(config)
        config.custom_hooks.append({"type": "EMAHook", "momentum": 0.1})

    hooks = train("byol", ON, averaged).hooks
    (hook,) = [hook for hook in hooks if type(hook).__name__ == "EMAHook"]
    assert hook.ema_model.module._host is None
