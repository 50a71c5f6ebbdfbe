"""What a training run may ask for besides: each with SP, and at weight 0 as without it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import mm_hosts
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
    """Autocast on the CPU: mmengine's AmpOptimWrapper refuses to be built without a GPU."""

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
def test_weight_0_is_the_baseline_under_options(train: Any, change: Any) -> None:
    baseline = train("mae", None, change).model.state_dict()
    untouched = change is ema  # it keeps its average apart
    assert mm_hosts.same(baseline, train("mae").model.state_dict()) is untouched
    off = train("mae", {"weight": 0}, change).model.state_dict()
    assert mm_hosts.same(mm_hosts.without_sp(off), dict(baseline))
    on = train("mae", ON, change).model.state_dict()
    assert all(value.isfinite().all() for value in on.values())
    assert not mm_hosts.same(mm_hosts.without_sp(on), dict(baseline))


def test_ema_hook_averages_the_baseline_alike(train: Any) -> None:
    def averaged(sp: Any = None) -> dict[str, torch.Tensor]:
        hooks = train("mae", sp, ema).hooks
        (hook,) = [hook for hook in hooks if type(hook).__name__ == "EMAHook"]
        return dict(hook.ema_model.module.state_dict())

    baseline, off, on = averaged(), averaged({"weight": 0}), averaged(ON)
    assert mm_hosts.same(mm_hosts.without_sp(off), baseline)
    assert list(mm_hosts.without_sp(on)) == list(baseline)


def test_lars_gives_sps_head_the_rules_of_its_paramwise_cfg(train: Any) -> None:
    runner = train("byol", ON)
    optimizer = runner.optim_wrapper.optimizer
    assert type(optimizer).__name__ == "LARS"
    group_of = {id(p): group for group in optimizer.param_groups for p in group["params"]}
    told = {}
    for name, parameter in runner.model.sp.named_parameters():
        group = group_of[id(parameter)]
        told[name] = (group["weight_decay"], group.get("lars_exclude", False))
    assert {told[n] for n in told if n.endswith("bias")} == {(0.0, True)}
    assert {told[n] for n in told if n.endswith("weight")} == {(1e-6, False)}
    frozen = train("byol", {"weight": 0})
    in_use = {id(p) for g in frozen.optim_wrapper.optimizer.param_groups for p in g["params"]}
    assert not in_use & {id(p) for p in frozen.model.sp.parameters()}


def test_weight_follows_training_and_each_step_draws_its_own_pairs(train: Any) -> None:
    boxes: list[torch.Tensor] = []
    weights: list[float] = []

    def keep(_: Any, __: Any, out: SPOutput) -> None:
        boxes.append(out.boxes)
        weights.append(float(out.metrics["weight"]))

    train("mae", {"weight": 1.0, "relative_weight": False, "warmup_fraction": 1.0}, watch=keep)
    assert weights == pytest.approx([0, 1 / 3, 2 / 3])
    first, second, third = boxes
    assert not torch.equal(first, second) and not torch.equal(second, third)


@pytest.mark.parametrize("name", ("byol", "mae"))
def test_a_resumed_run_ends_as_an_uninterrupted_one(train: Any, name: str, tmp_path: Any) -> None:
    settings = {**ON, "max_iou": (1.0, 0.1), "warmup_fraction": 0.5}
    resumed, whole = mm_resume.ends(train, name, settings, tmp_path)
    assert mm_hosts.same(resumed, whole)


@pytest.mark.parametrize(("name", "source"), (("mae", "view"), ("simclr", "host")))
def test_two_ranks(name: str, source: str, data: Path, tmp_path: Path) -> None:
    """DDP without unused parameters: weight 0 is the baseline; at 1 the ranks stay in step."""
    ended = {
        weight: _two_ranks(data, tmp_path / weight, weight, name, source)
        for weight in ("none", "0", "1")
    }
    for first, second in ended.values():
        drawn = first.pop("drawn", None), second.pop("drawn", None)
        assert drawn[0] is None or not torch.equal(*drawn), "the ranks draw the same pairs"
        assert mm_hosts.same(first, second)
    (baseline, _), (off, _), (on, _) = ended.values()
    assert mm_hosts.same(mm_hosts.without_sp(off), baseline)
    assert not mm_hosts.same(mm_hosts.without_sp(on), baseline)


def _two_ranks(data: Path, work: Path, *asked: str) -> tuple[Any, Any]:
    work.mkdir()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    script = Path(__file__).with_name("mm_rank.py")
    common = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2"}
    started = [
        subprocess.Popen(
            [sys.executable, script, data, work, *asked],
            env={**os.environ, **common, "RANK": rank, "LOCAL_RANK": rank, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.DEVNULL,
        )
        for rank in ("0", "1")
    ]
    assert [process.wait(timeout=200) for process in started] == [0, 0]
    first, second = (torch.load(work / f"{rank}.pt", weights_only=True) for rank in (0, 1))
    return first, second


def test_weights_go_downstream(train: Any, data: Path, tmp_path: Path) -> None:
    """The host's own script takes the backbone out, and its linear evaluation trains on it."""
    import mmselfsup

    def keep(config: Any) -> None:
        config.work_dir = str(tmp_path)
        config.default_hooks.checkpoint = {"type": "CheckpointHook", "interval": 1}

    model = train("simclr", ON, keep).model
    host = Path(mmselfsup.__file__).parent / ".mim"
    extract = host / "tools" / "model_converters" / "extract_backbone_weights.py"
    subprocess.run(
        [sys.executable, extract, tmp_path / "epoch_1.pth", tmp_path / "backbone.pth"],
        check=True,
        env={**os.environ, "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": "1"},
    )
    below = host / "configs" / "benchmarks" / "classification" / "imagenet"
    config = Config.fromfile(below / "resnet50_linear-8xb32-steplr-100e_in1k.py")
    config.model.backbone.init_cfg = {
        "type": "Pretrained",
        "checkpoint": str(tmp_path / "backbone.pth"),
    }
    mm_hosts.shrink(config, data, tmp_path / "linear")
    for loop in ("val", "test"):
        for key in ("cfg", "dataloader", "evaluator"):
            config.pop(f"{loop}_{key}")
    classifier = mm_hosts.trained(config).model
    assert "sp" not in dict(classifier.named_children())
    learnt = dict(model.backbone.named_parameters())
    assert learnt.keys() == dict(classifier.backbone.named_parameters()).keys()
    for key, value in classifier.backbone.named_parameters():
        assert torch.equal(value, learnt[key]), f"{key} is not what was learnt"
