"""SpatialProbeHook: the Runner's training is that without it, and its metrics are logged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mm_configs
import mm_resume
import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from sp_mmselfsup import SpatialProbeHook
from torch import nn

from sp_plugin import ConfigError
from sp_plugin.isolation import rng_fingerprint

NAMES = ("r2_dx", "r2_dy", "r2_scale", "rankme", "feature_std")


def with_probe(config: Config) -> None:
    hook = {"type": "SpatialProbeHook", "every": 1, "fraction": 1, "interval": 2}
    config.custom_hooks = [*config.get("custom_hooks", []), hook]


def probe_of(runner: Any) -> Any:
    (hook,) = [hook for hook in runner.hooks if isinstance(hook, SpatialProbeHook)]
    return hook.probe


@pytest.mark.parametrize("name", ["mae", pytest.param("simclr", marks=pytest.mark.slow)])
def test_run_is_the_same_with_a_probe(train: Any, name: str) -> None:
    runs, generators = [], []
    for change in (None, with_probe):
        runs.append(train(name, None, change))
        generators.append(rng_fingerprint())
    plain, probed = runs
    assert mm_configs.same(dict(plain.model.state_dict()), dict(probed.model.state_dict()))
    states = [runner.optim_wrapper.state_dict()["state"] for runner in runs]
    torch.testing.assert_close(*states, rtol=0, atol=0)
    assert generators[0] == generators[1]
    assert not probed.model._forward_pre_hooks
    scalars = [set(runner.message_hub.log_scalars) for runner in runs]
    assert scalars[1] - scalars[0] == {f"train/spatial_probe_{name}" for name in NAMES}
    history = probed.message_hub.get_scalar("train/spatial_probe_rankme").data[0]
    assert len(history) == 2 and history[-1] > 1  # after steps 2 and 3 of 3


@pytest.mark.slow
def test_probe_next_to_sp_changes_nothing(train: Any) -> None:
    alone = train("mae", {"weight": 1.0}).model.state_dict()
    both = train("mae", {"weight": 1.0}, with_probe).model.state_dict()
    assert mm_configs.same(dict(alone), dict(both))


@pytest.mark.slow
def test_resumed_probe_equals_uninterrupted(train: Any, tmp_path: Path) -> None:
    states: list[Any] = []

    @HOOKS.register_module(force=True)
    class KeepProbe(Hook):
        def after_train(self, runner: Any) -> None:
            states.append(probe_of(runner).state_dict())

    def change(config: Config) -> None:
        with_probe(config)
        config.custom_hooks.append({"type": "mmengine.KeepProbe"})

    mm_resume.resumed_and_uninterrupted(train, "mae", None, tmp_path, change)
    whole, resumed = states
    assert whole["step"] == 2 * mm_configs.STEPS
    torch.testing.assert_close(resumed, whole, rtol=0, atol=0)


def test_missing_backbone_is_refused() -> None:
    runner = type("Runner", (), {"model": nn.Linear(2, 2)})
    with pytest.raises(ConfigError, match=r"^algorithm: Linear has no 'backbone', which the sp"):
        SpatialProbeHook().before_train(runner)
