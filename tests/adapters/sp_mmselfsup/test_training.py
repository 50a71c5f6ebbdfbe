"""Options of training runs, with SP, and with weight 0 as without SP."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import mm_configs
import mm_resume
import pytest
import torch
from mmengine.config import Config
from mmengine.optim import OptimWrapper
from mmengine.registry import OPTIM_WRAPPERS

from sp_plugin import SPOutput

ON = {"weight": 1.0, "warmup_fraction": 0.0}


@OPTIM_WRAPPERS.register_module(force=True)
class CPUAmp(OptimWrapper):
    """Autocast on the CPU: mmengine's AmpOptimWrapper cannot be built without a GPU."""

    def optim_context(self, model: Any) -> Any:
        assert model is not None
        return torch.autocast("cpu", torch.bfloat16)


def amp(config: Any) -> None:
    config.optim_wrapper.type = "mmengine.CPUAmp"


def accumulate(config: Any) -> None:
    config.optim_wrapper.accumulative_counts = 2


def clip(config: Any) -> None:
    config.optim_wrapper.clip_grad = {"max_norm": 0.01}


def ema(config: Any) -> None:
    config.custom_hooks = [{"type": "EMAHook", "momentum": 0.1}]


@pytest.mark.parametrize("change", (amp, accumulate, clip, ema))
def test_options_keep_weight_0_baseline(train: Any, change: Any) -> None:
    baseline = train("mae", None, change).model.state_dict()
    untouched = change is ema  # its average is separate from the model
    assert mm_configs.same(baseline, train("mae").model.state_dict()) is untouched
    off = train("mae", {"weight": 0}, change).model.state_dict()
    assert mm_configs.same(mm_configs.without_sp(off), dict(baseline))
    on = train("mae", ON, change).model.state_dict()
    assert all(value.isfinite().all() for value in on.values())
    assert not mm_configs.same(mm_configs.without_sp(on), dict(baseline))


def test_ema_hook_averages_like_baseline(train: Any) -> None:
    def average(sp: Any = None) -> dict[str, torch.Tensor]:
        hooks = train("mae", sp, ema).hooks
        (hook,) = [hook for hook in hooks if type(hook).__name__ == "EMAHook"]
        return dict(hook.ema_model.module.state_dict())

    baseline, off, on = average(), average({"weight": 0}), average(ON)
    assert mm_configs.same(mm_configs.without_sp(off), baseline)
    assert list(mm_configs.without_sp(on)) == list(baseline)


def test_lars_applies_paramwise_cfg_to_head(train: Any) -> None:
    runner = train("byol", ON)
    optimizer = runner.optim_wrapper.optimizer
    assert type(optimizer).__name__ == "LARS"
    group_of = {id(p): group for group in optimizer.param_groups for p in group["params"]}
    options = {}
    for name, parameter in runner.model.sp.named_parameters():
        group = group_of[id(parameter)]
        options[name] = (group["weight_decay"], group.get("lars_exclude", False))
    assert {options[n] for n in options if n.endswith("bias")} == {(0.0, True)}
    assert {options[n] for n in options if n.endswith("weight")} == {(1e-6, False)}
    frozen = train("byol", {"weight": 0})
    optimized = {id(p) for g in frozen.optim_wrapper.optimizer.param_groups for p in g["params"]}
    assert not optimized & {id(p) for p in frozen.model.sp.parameters()}


def test_weight_and_boxes_change_each_step(train: Any) -> None:
    boxes: list[torch.Tensor] = []
    weights: list[float] = []

    def record(_: Any, __: Any, out: SPOutput) -> None:
        boxes.append(out.boxes)
        weights.append(float(out.metrics["weight"]))

    train("mae", {"weight": 1.0, "relative_weight": False, "warmup_fraction": 1.0}, sp_hook=record)
    assert weights == pytest.approx([0, 1 / 3, 2 / 3])
    first, second, third = boxes
    assert not torch.equal(first, second) and not torch.equal(second, third)


@pytest.mark.parametrize("name", (pytest.param("byol", marks=pytest.mark.slow), "mae"))
def test_resumed_run_equals_uninterrupted(train: Any, name: str, tmp_path: Any) -> None:
    settings = {**ON, "max_iou": (1.0, 0.1), "warmup_fraction": 0.5}
    resumed, whole = mm_resume.resumed_and_uninterrupted(train, name, settings, tmp_path)
    assert mm_configs.same(resumed, whole)


@pytest.mark.parametrize(
    ("name", "source"),
    (pytest.param("mae", "view", marks=pytest.mark.slow), ("simclr", "host_views")),
)
def test_ddp_ranks_stay_in_sync(name: str, source: str, data: Path, tmp_path: Path) -> None:
    """DDP without unused parameters: weight 0 is the baseline; with 1 the ranks are equal."""
    states = {
        weight: _train_two_ranks(data, tmp_path / weight, weight, name, source)
        for weight in ("none", "0", "1")
    }
    for first, second in states.values():
        boxes = first.pop("boxes", None), second.pop("boxes", None)
        assert boxes[0] is None or not torch.equal(*boxes), "the ranks draw the same boxes"
        assert mm_configs.same(first, second)
    (baseline, _), (off, _), (on, _) = states.values()
    assert mm_configs.same(mm_configs.without_sp(off), baseline)
    assert not mm_configs.same(mm_configs.without_sp(on), baseline)


def _train_two_ranks(data: Path, work: Path, *arguments: str) -> tuple[Any, Any]:
    work.mkdir()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    script = Path(__file__).with_name("mm_rank.py")
    common = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2"}
    processes = [
        subprocess.Popen(
            [sys.executable, script, data, work, *arguments],
            env={**os.environ, **common, "RANK": rank, "LOCAL_RANK": rank, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.DEVNULL,
        )
        for rank in ("0", "1")
    ]
    assert [process.wait(timeout=200) for process in processes] == [0, 0]
    first, second = (torch.load(work / f"{rank}.pt", weights_only=True) for rank in (0, 1))
    return first, second


def test_backbone_loads_in_linear_eval(train: Any, data: Path, tmp_path: Path) -> None:
    """MMSelfSup's script extracts the backbone, and its linear evaluation trains on it."""
    import mmselfsup

    def save_checkpoint(config: Any) -> None:
        config.work_dir = str(tmp_path)
        config.default_hooks.checkpoint = {"type": "CheckpointHook", "interval": 1}

    model = train("simclr", ON, save_checkpoint).model
    shipped = Path(mmselfsup.__file__).parent / ".mim"
    extract = shipped / "tools" / "model_converters" / "extract_backbone_weights.py"
    subprocess.run(
        [sys.executable, extract, tmp_path / "epoch_1.pth", tmp_path / "backbone.pth"],
        check=True,
        env={**os.environ, "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": "1"},
    )
    folder = shipped / "configs" / "benchmarks" / "classification" / "imagenet"
    config = Config.fromfile(folder / "resnet50_linear-8xb32-steplr-100e_in1k.py")
    config.model.backbone.init_cfg = {
        "type": "Pretrained",
        "checkpoint": str(tmp_path / "backbone.pth"),
    }
    mm_configs.shrink(config, data, tmp_path / "linear")
    for loop in ("val", "test"):
        for key in ("cfg", "dataloader", "evaluator"):
            config.pop(f"{loop}_{key}")
    classifier = mm_configs.trained(config).model
    assert "sp" not in dict(classifier.named_children())
    trained = dict(model.backbone.named_parameters())
    assert trained.keys() == dict(classifier.backbone.named_parameters()).keys()
    for key, value in classifier.backbone.named_parameters():
        assert torch.equal(value, trained[key]), f"{key} is not what was trained"
