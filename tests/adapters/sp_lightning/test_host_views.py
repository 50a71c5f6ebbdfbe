"""source="host_views": SP on the views that the module makes and encodes itself."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
import torch
from image_datasets import Images
from sp_lightning import SPCallback
from torch import Tensor
from torch.utils.data import ConcatDataset, DataLoader
from torchvision import transforms as T

from sp_plugin import ConfigError, SpatialPrediction
from sp_plugin.crops.transform import SPTransform
from sp_plugin.views.transform import ViewBoxTransform

# By the views that each host of the kit takes.
HOSTS = {
    "two_views": (32, 32), "many_views": (32,) * 4, "multi_crop": (32, 32, 16, 16),
    "nested": (32, 32), "queue": (32, 32), "manual": (32, 32),
}  # fmt: skip
OPTIONS: dict[str, dict[str, Any]] = {
    "clipped": {"gradient_clip_val": 0.01},
    "accumulated": {"accumulate_grad_batches": 2},
    "bf16": {"precision": "bf16-mixed"},
    "half": {"precision": "bf16-true"},
}


def make_view_transform(side: int) -> Any:
    scale = (0.05, 0.4) if side < 32 else (0.3, 1.0)
    return T.Compose([T.RandomResizedCrop(side, scale, antialias=True), T.RandomHorizontalFlip()])


class HostTransform:
    """A host's transform of its own; views of one size share their parts."""

    def __init__(self, sides: tuple[int, ...]) -> None:
        parts = {side: make_view_transform(side) for side in sides}
        self.parts = [parts[side] for side in sides]

    def __call__(self, image: Tensor) -> list[Tensor]:
        return [part(image) for part in self.parts]


class SeededImages(Images):
    """Views that do not depend on where a run was cut."""

    def __getitem__(self, index: int) -> tuple[Any, int]:
        with torch.random.fork_rng([]):
            torch.manual_seed(index)
            return super().__getitem__(index)


def fit_module(
    kit: Any, host: Any, *callbacks: Any, data: Any = None, workers: int = 0, shuffle: bool = True,
    ckpt_path: Any = None, **options: Any,
) -> tuple[dict[str, Tensor], Any]:  # fmt: skip
    module = kit.new(host) if isinstance(host, str) else host
    data = data or Images(HostTransform(HOSTS.get(host, (32, 32))))
    draws = torch.Generator().manual_seed(0)  # not the host's own
    loader = DataLoader(data, 8, shuffle=shuffle, num_workers=workers, generator=draws)
    kit.trainer(*callbacks, **options).fit(module, loader, ckpt_path=ckpt_path)
    return kit.state(module), module


def count_encoded_rows(kit: Any, host: str, *callbacks: Any) -> int:
    """How many images went through the student in training; SP's look at it before is none."""
    module, seen = kit.new(host), []
    module.on_train_start = lambda: module.backbone.register_forward_hook(
        lambda net, given, _: seen.append(len(given[0]) if net.training else 0)
    )
    loader = DataLoader(Images(HostTransform(HOSTS[host])), batch_size=8)
    kit.trainer(*callbacks).fit(module, loader)
    return sum(seen)


@pytest.mark.parametrize("host", HOSTS)
def test_contract_holds_without_extra_rows(kit: Any, host: str) -> None:
    baseline, _ = fit_module(kit, host)
    zero, _ = fit_module(kit, host, SPCallback(source="host_views", weight=0))
    assert kit.same(baseline, zero)
    on = SPCallback(source="host_views", weight=1, warmup_fraction=0)
    trained, _ = fit_module(kit, host, on)
    moved = [key for key in baseline if not torch.equal(baseline[key], trained[key])]
    assert any(key.startswith("backbone.") for key in moved)
    fresh = SpatialPrediction(on.sp.feature_dim, on.sp.user_config).head.state_dict()
    assert not any(torch.equal(value, on.sp.head.state_dict()[key]) for key, value in fresh.items())
    assert count_encoded_rows(kit, host) == count_encoded_rows(
        kit, host, SPCallback(source="host_views", weight=1)
    )


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_options_keep_weight_0_baseline(kit: Any, options: dict[str, Any]) -> None:
    baseline, _ = fit_module(kit, "multi_crop", **options)
    zero, _ = fit_module(kit, "multi_crop", SPCallback(source="host_views", weight=0), **options)
    assert kit.same(baseline, zero)
    on, _ = fit_module(
        kit, "multi_crop", SPCallback(source="host_views", weight=1, warmup_fraction=0), **options
    )
    assert not kit.same(baseline, on) and all(value.isfinite().all() for value in on.values())


@pytest.mark.parametrize("workers", (0, 2))
def test_only_the_gradient_differs(kit: Any, workers: int) -> None:
    """The views, what the host draws and its statistics are those of the baseline."""

    def run(*callbacks: Any) -> tuple[list[Tensor], dict[str, Tensor]]:
        module, seen = kit.new("multi_crop"), []
        module.on_train_batch_start = lambda batch, _: seen.extend(batch[0])
        data = Images(HostTransform(HOSTS["multi_crop"]))
        once = {"max_epochs": 1, "limit_train_batches": 1}
        fit_module(kit, module, *callbacks, data=data, workers=workers, **once)
        return [*seen, torch.get_rng_state()], dict(module.named_buffers())

    baseline, buffers = run()
    views, buffers_sp = run(SPCallback(source="host_views", weight=1, warmup_fraction=0))
    assert all(map(torch.equal, baseline, views)) and len(views) == 4 + 1
    assert kit.same(buffers, buffers_sp)


def test_metrics_use_the_smallest_views(kit: Any) -> None:
    class Log(kit.pl.Callback):
        def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
            self.figures = dict(trainer.callback_metrics)

    log, callback = Log(), SPCallback(source="host_views", weight=1, warmup_fraction=0)
    data = Images(HostTransform(HOSTS["multi_crop"]))
    fit_module(kit, "multi_crop", callback, log, data=data)
    assert log.figures["train_sp_skipped_fraction"] == 0 and log.figures["train_sp_loss"] > 0
    # The measure of targets is that of the two small views, drawn from the transform itself.
    boxes = ViewBoxTransform(data.transform).sample_boxes()
    measured = SpatialPrediction(4).calibrate_targets(boxes[:, 2:]).targets.std
    assert torch.equal(callback.sp.targets.std, measured)
    assert not torch.allclose(
        measured, SpatialPrediction(4).calibrate_targets(boxes[:, :2]).targets.std
    )


def test_fit_removes_wrappers_and_hooks(kit: Any) -> None:
    data = Images(host := HostTransform((32, 32)))
    before = pickle.dumps(host)
    _, module = fit_module(kit, "two_views", SPCallback(source="host_views"), data=data)
    assert data.transform is host and pickle.dumps(host) == before
    assert not module.backbone._forward_hooks and not module.backbone._forward_pre_hooks

    class Stop(kit.pl.Callback):
        def on_train_batch_end(self, *_: Any) -> None:
            raise KeyError("killed")

    with pytest.raises(KeyError):
        fit_module(kit, "two_views", SPCallback(source="host_views"), Stop(), data=data)
    assert data.transform is host and pickle.dumps(host) == before


def test_shared_transform_is_restored(kit: Any) -> None:
    host = HostTransform((32, 32))
    before = pickle.dumps(host)
    parts = [Images(host), Images(host)]
    fit_module(
        kit, "two_views", SPCallback(source="host_views", weight=1), data=ConcatDataset(parts)
    )
    assert pickle.dumps(host) == before and all(part.transform is host for part in parts)


@pytest.mark.parametrize("pairs", ("all", 1))
def test_resumed_run_equals_uninterrupted(kit: Any, pairs: Any, tmp_path: Any) -> None:
    def run(*more: Any, **options: Any) -> tuple[dict[str, Tensor], Any]:
        callback = SPCallback(source="host_views", weight=1, warmup_fraction=0, num_pairs=pairs)
        options.update(data=SeededImages(HostTransform(HOSTS["many_views"])), shuffle=False)
        state, _ = fit_module(kit, "many_views", callback, kit.reseed(), *more, **options)
        return state, callback.sp.state_dict()

    whole, whole_sp = run()
    with pytest.raises(KeyError):
        run(kit.kill_after_epoch(tmp_path / "half.ckpt"))
    resumed, resumed_sp = run(ckpt_path=tmp_path / "half.ckpt")
    assert kit.same(whole, resumed) and kit.same(whole_sp, resumed_sp)


@pytest.mark.parametrize("weight", (0, 1))
def test_ddp_ranks_stay_in_sync(kit: Any, weight: float, tmp_path: Any) -> None:
    class Keep(kit.pl.Callback):
        def on_fit_end(self, trainer: Any, pl_module: Any) -> None:
            state = {"sp": pl_module.sp.state_dict(), "state": pl_module.state_dict()}
            torch.save(state, tmp_path / f"{trainer.global_rank}.pt")

    ddp = {"devices": 2, "strategy": "ddp_fork", "max_epochs": 2}
    callback = SPCallback(source="host_views", weight=weight, warmup_fraction=0)
    trained, _ = fit_module(kit, "multi_crop", callback, Keep(), **ddp)
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1))
    assert kit.same(first["sp"], second["sp"])
    still = [key for key in first["state"] if "running" not in key]
    assert all(torch.equal(first["state"][key], second["state"][key]) for key in still)
    assert kit.same(fit_module(kit, "multi_crop", **ddp)[0], trained) is (weight == 0)


def test_unsupported_setups_are_refused(kit: Any) -> None:
    def refused(host: str, data: Any = None, **settings: Any) -> str:
        with pytest.raises(ConfigError) as caught:
            name = kit.hosts[host].name
            fit_module(
                kit, host, SPCallback(name, **{"source": "host_views", **settings}), data=data
            )
        assert "\n" not in str(caught.value)
        return str(caught.value)

    # The masked host hands its student other pixels; the student of the other sees one view.
    for host in ("masked", "teacher"):
        line = refused(host)
        assert line.startswith(
            "source: got 'host_views', but the backbone is called, with gradients, on"
        )
        assert line.endswith("take 'view' or 'image' with this method")
    data = Images(ViewBoxTransform(HostTransform((32, 32))))
    assert "set source='host_views'" in refused("two_views", data, source="view")
    data = Images(SPTransform(HostTransform((32, 32))))
    assert "set source='image'" in refused("two_views", data, source="view")
    with pytest.raises(ConfigError, match="the batch brings no locations of its views: wrap"):
        kit.fit(kit.new("two_views"), SPCallback(source="host_views"))
    with pytest.raises(
        ConfigError, match=r"feature_fn: got .* takes none where source is 'host_views'"
    ):
        SPCallback(source="host_views", feature_fn=lambda net, crops: net(crops))
    still = HostTransform(())
    still.parts = [T.Compose([T.Resize(32), T.CenterCrop(32)])] * 2
    assert "all views show the same part" in refused("two_views", Images(still))
    twice = T.Compose([make_view_transform(32), lambda image: [image, image.clone()]])
    assert "makes views that SP does not see" in refused("two_views", Images(twice))
