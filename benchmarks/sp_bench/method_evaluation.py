"""Evaluation of a method's backbone, after pre-training and before it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sp_bench.backbones import set_fused_attention
from sp_bench.config import Settings
from sp_bench.frozen_backbone import FrozenBackbone
from sp_bench.methods import Method
from sp_bench.pretrain import new_method
from sp_bench.task_data import Sources
from sp_bench.task_runner import merge_metrics, run_tasks
from sp_bench.tasks import Task
from sp_plugin import SPConfig
from sp_plugin.sizes import shorter_side

_last_random: dict[tuple[Any, ...], FrozenBackbone] = {}


def evaluate_method(
    settings: Settings,
    method: Method,
    seed: int,
    sources: Sources,
    tasks: Sequence[Task],
    folder: Path,
    log: Callable[[str], None],
    untrained: FrozenBackbone,
) -> dict[str, float]:
    """Metrics of a pre-trained method's backbone, by key; arguments as for `run_tasks`."""
    frozen = freeze_method(settings, method)
    by_task = run_tasks(tasks, frozen, untrained, sources, seed, folder, log, settings.rgb)
    return merge_metrics(by_task)


def random_backbone(settings: Settings, seed: int) -> FrozenBackbone:
    """Frozen backbone of a method before the training of a seed.

    The last one is kept with all that was measured on it, which the arms of a seed share.
    """
    key = settings.method, settings.backbone, settings.side, settings.stats, seed
    if key not in _last_random:
        _last_random.clear()
        _last_random[key] = freeze_method(settings, new_method(settings, seed))
    return _last_random[key]


def freeze_method(settings: Settings, method: Method) -> FrozenBackbone:
    """Frozen backbone of a method, for images of the size of its views."""
    # Without a backward pass fused attention is faster on a CPU too: 0.6 of the time at 784 tokens.
    set_fused_attention(method.backbone, fused=True)
    return FrozenBackbone(
        method.backbone,
        side=settings.side,
        crop_size=crop_size_of_tasks(settings.side),
        pool=pool_of_method(method.pool, method.backbone),
        device=evaluation_device(),
        stats=settings.stats,
    )


def pool_of_method(pool: str, backbone: nn.Module) -> str:
    """Pooling that a method names, for a backbone that may have no class token."""
    return pool if getattr(backbone, "num_prefix_tokens", 0) > 0 else "mean"


def crop_size_of_tasks(side: int) -> int:
    """Side of the crops that tasks cut: SP's default, whatever the settings of the training."""
    return shorter_side(SPConfig().resolve(side).crop_size)


def evaluation_device() -> str:
    """A GPU if there is one."""
    return "cuda" if torch.cuda.is_available() else "cpu"
