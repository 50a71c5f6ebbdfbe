"""A run that is stopped after its first epoch and resumed, and the same run uninterrupted."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import HOOKS


@HOOKS.register_module(force=True)
class Reseed(Hook):
    """Seeds each epoch: the host's own draws must not depend on where the run was stopped."""

    priority = "VERY_HIGH"

    def before_train_epoch(self, runner: Any) -> None:
        torch.manual_seed(runner.epoch)
        np.random.seed(runner.epoch)  # noqa: NPY002  # mmcv draws from it
        random.seed(runner.epoch)


@HOOKS.register_module(force=True)
class StopAfter(Hook):
    priority = "LOWEST"

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def after_train_epoch(self, runner: Any) -> None:
        if runner.epoch + 1 == self.epoch:
            raise KeyboardInterrupt


def resumed_and_uninterrupted(
    train: Any,
    name: str,
    settings: dict[str, Any],
    folder: Path,
    change: Callable[[Config], None] = lambda config: None,
) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Final states of the resumed and of the uninterrupted run, two epochs each."""

    def until(epoch: int, work: str, resume: bool = False) -> Callable[[Config], None]:
        def apply(config: Config) -> None:
            change(config)
            config.custom_hooks = [*config.get("custom_hooks", []), {"type": "mmengine.Reseed"}]
            config.train_cfg.max_epochs = 2
            config.optim_wrapper.accumulative_counts = 1  # a partial sum is not saved
            config.work_dir = str(folder / work)
            if resume:
                config.resume, config.load_from = True, str(folder / "half" / "epoch_1.pth")
            if epoch == 1:
                config.default_hooks.checkpoint = {"type": "CheckpointHook", "interval": 1}
                config.custom_hooks.append({"type": "mmengine.StopAfter", "epoch": 1})

        return apply

    whole = train(name, settings, until(2, "whole")).model.state_dict()
    with pytest.raises(KeyboardInterrupt):
        train(name, settings, until(1, "half"))
    resumed = train(name, settings, until(2, "resumed", resume=True)).model.state_dict()
    return dict(resumed), dict(whole)
