"""Evaluation of one backbone on tasks, after pre-training or from a checkpoint."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sp_bench.backbones import SMALL, make_backbone
from sp_bench.channel_resolve import resolve_stats
from sp_bench.channel_settings import check_channel_settings, given_stats
from sp_bench.checkpoints import load_checkpoint
from sp_bench.config import Settings, check_seed, claim_output_dir
from sp_bench.data import DataError
from sp_bench.data.channel_stats import IMAGENET, ChannelStats
from sp_bench.environment import machine, versions
from sp_bench.errors import UsageError
from sp_bench.flops import forward_flops
from sp_bench.frozen_backbone import FrozenBackbone
from sp_bench.methods import Method
from sp_bench.pretrain import new_method
from sp_bench.results import write_json
from sp_bench.task_data import Sources, load_main
from sp_bench.task_runner import merge_metrics, run_tasks
from sp_bench.tasks import Task, find_tasks
from sp_bench.trained_settings import side_of_run
from sp_plugin import SPConfig
from sp_plugin.isolation import private_rng
from sp_plugin.sizes import shorter_side

RESULT = "eval.json"
_SMALL_SIDE, _SIDE = 64, 224


@dataclass(frozen=True)
class EvalSettings:
    """Settings of the evaluation of one backbone.

    Attributes:
        backbone: name, as for `make_backbone`.
        checkpoint: checkpoint file; empty: random weights.
        prefix: part of the prefix of the backbone's keys in the checkpoint; None: the one with
            the most matches.
        allow_partial: whether some of the backbone's weights may be missing in the checkpoint.
        trust: whether the checkpoint may run code, as for `read_weights`.
        data: source of all tasks; None: each task has its own.
        task_data: source of each task that has its own.
        tasks: names of the tasks.
        side: side of the images in pixels, at least 16; None: that of the checkpoint's run if
            sp-bench made it, else 64 for the small backbones and 224 for others.
        pool: pooling of token outputs, ``mean`` or ``cls``.
        layer: dotted name of the submodule whose output is taken; None: the last.
        limit: largest number of training images of ``data``.
        seed: seed of the random backbone that tasks compare with.
        channels: 1 or 3, to which grey and RGB images are converted; None: that of the
            checkpoint's run if sp-bench made it, else 3 with a checkpoint, else 1 if all are grey.
        mean: mean of each channel, by which images are normalised; None: that of the checkpoint's
            run, else ImageNet's for RGB, else measured on the training images.
        std: standard deviation of each channel, with ``mean``.
    """

    backbone: str
    checkpoint: str = ""
    prefix: str | None = None
    allow_partial: bool = False
    trust: bool = False
    data: str | None = None
    task_data: dict[str, str] = field(default_factory=dict)
    tasks: tuple[str, ...] = ()
    side: int | None = None
    pool: str = "mean"
    layer: str | None = None
    limit: int | None = None
    seed: int = 0
    channels: int | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        if self.pool not in ("mean", "cls"):
            raise UsageError(f"pool: got {self.pool!r}, takes mean or cls")
        if self.side is not None and self.side < 16:
            raise UsageError(f"side: got {self.side}, takes a whole number from 16 up")
        check_seed(self.seed)
        check_channel_settings(self)

    @property
    def stats(self) -> ChannelStats:
        """Mean and standard deviation of each channel: the given ones, or ImageNet's."""
        return given_stats(self) or IMAGENET

    @property
    def resolved_side(self) -> int:
        """``side``, or its default."""
        default = _SMALL_SIDE if self.backbone in SMALL else _SIDE
        trained = side_of_run(Path(self.checkpoint)) if self.checkpoint else None
        return self.side or trained or default

    def plain(self) -> dict[str, Any]:
        """Plain values for JSON: lists for tuples, ``side`` resolved."""
        settings: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(self)))
        return {**settings, "side": self.resolved_side}


def run_evaluation(
    settings: EvalSettings,
    out: Path,
    log: Callable[[str], None],
    sources: Sources | None = None,
) -> dict[str, Any]:
    """Evaluate a backbone on the tasks that are not done yet, and write the result.

    ``out`` contains ``settings.json``, ``tasks.json`` with the metrics so far, and at the end
    ``eval.json``. A finished evaluation is read, a stopped one resumes with the next task.

    Args:
        settings: backbone and tasks.
        out: new or empty folder, or a folder of the same settings.
        log: function that gets each line of output.
        sources: images; None: loaded by ``settings``.

    Returns:
        Content of ``eval.json``: settings, checkpoint, metrics, seconds, compute, data, versions,
        machine.

    Raises:
        UsageError: a setting or the checkpoint cannot be used.
        DataError: the images of a task cannot be used.
        ConfigError: a task is unknown, or the backbone takes no size that was tried.
    """
    tasks = find_tasks(settings.tasks)
    path = out / RESULT
    if path.exists():  # nothing is built or loaded for a finished one
        claim_output_dir(out, _with_stored_stats(settings, out))
        finished = _read_json(path)
        log(finished["checkpoint"]["summary"])
        return finished
    sources = sources or _load_sources(settings, tasks)
    splits = {task.name: sources.of(task) for task in tasks}
    checkpoints = [Path(settings.checkpoint)] if settings.checkpoint else []
    settings = resolve_stats(settings, sources, tasks, log, checkpoints)
    backbone, checkpoint = _load_backbone(settings)
    log(checkpoint["summary"])
    claim_output_dir(out, settings)
    frozen, untrained = _freeze(settings, backbone), _freeze(settings, _random(settings))
    by_task = run_tasks(tasks, frozen, untrained, sources, settings.seed, out, log)
    result = {
        "settings": settings.plain(),
        "checkpoint": checkpoint,
        "metrics": merge_metrics(by_task),
        "seconds": {name: task["seconds"] for name, task in by_task.items()},
        "compute": forward_flops(frozen.backbone, frozen.side, settings.stats.channels),
        "data": {
            name: {"name": images.name, "train": len(images.train), "test": len(images.test)}
            for name, images in splits.items()
        },
        "versions": versions(),
        "machine": machine("32-true"),
    }
    write_json(path, result)
    return _read_json(path)


def evaluate_method(
    settings: Settings,
    method: Method,
    seed: int,
    sources: Sources,
    tasks: Sequence[Task],
    folder: Path,
    log: Callable[[str], None],
) -> dict[str, float]:
    """Metrics of a pre-trained method's backbone, by key; arguments as for `run_tasks`."""
    frozen = freeze_method(settings, method)
    untrained = freeze_method(settings, new_method(settings, seed))
    return merge_metrics(run_tasks(tasks, frozen, untrained, sources, seed, folder, log))


def freeze_method(settings: Settings, method: Method) -> FrozenBackbone:
    """Frozen backbone of a method, for images of the size of its views."""
    has_class_token = getattr(method.backbone, "num_prefix_tokens", 0) > 0
    return FrozenBackbone(
        method.backbone,
        side=settings.side,
        crop_size=shorter_side(SPConfig.from_dict(settings.sp).resolve(settings.side).crop_size),
        pool=method.pool if has_class_token else "mean",
        device=_device(),
        stats=settings.stats,
    )


def _freeze(settings: EvalSettings, backbone: nn.Module) -> FrozenBackbone:
    return FrozenBackbone(
        backbone,
        side=settings.resolved_side,
        crop_size=shorter_side(SPConfig().resolve(settings.resolved_side).crop_size),
        pool=settings.pool,
        layer=settings.layer,
        device=_device(),
        stats=settings.stats,
    )


def _device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def _load_sources(settings: EvalSettings, tasks: Sequence[Task]) -> Sources:
    main = None
    if settings.data is not None:
        main = load_main(settings.data, tasks, settings.task_data, limit=settings.limit)
    elif settings.limit is not None:
        raise DataError("limit: takes images of all tasks, --data DATA, to choose from")
    return Sources(main, settings.task_data)


def _load_backbone(settings: EvalSettings) -> tuple[nn.Module, dict[str, Any]]:
    """Backbone with the weights of the checkpoint, and what ``eval.json`` holds of the loading."""
    backbone = _random(settings)
    if not settings.checkpoint:
        return backbone, {"path": "", "summary": "no checkpoint: random weights"}
    path = Path(settings.checkpoint)
    report = load_checkpoint(
        backbone,
        path,
        prefix=settings.prefix,
        allow_partial=settings.allow_partial,
        trust=settings.trust,
    )
    summary = {"path": path.name, "summary": report.summary()}
    return backbone, {**summary, **dataclasses.asdict(report)}


def _random(settings: EvalSettings) -> nn.Module:
    with private_rng(settings.seed):
        return make_backbone(settings.backbone, settings.resolved_side, settings.stats.channels)


def _with_stored_stats(settings: EvalSettings, out: Path) -> EvalSettings:
    """The settings with the statistics that a finished evaluation measured."""
    stored = _read_json(out / "settings.json")
    if settings.mean is not None or not stored.get("mean"):
        return settings
    return dataclasses.replace(settings, mean=tuple(stored["mean"]), std=tuple(stored["std"]))


def _read_json(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text()))
