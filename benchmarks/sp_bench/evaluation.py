"""One backbone, from a checkpoint or with random weights, asked some tasks: ``sp-bench eval``."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sp_bench.backbones import SMALL, make_backbone
from sp_bench.checkpoints import load_checkpoint
from sp_bench.config import claim_output_dir
from sp_bench.data import DataError, load_data
from sp_bench.environment import machine, versions
from sp_bench.errors import UsageError
from sp_bench.flops import forward_flops
from sp_bench.frozen_backbone import FrozenBackbone
from sp_bench.results import write_json
from sp_bench.task_data import Sources
from sp_bench.task_runner import all_figures, answered
from sp_bench.tasks import Task, TaskContext, find_tasks
from sp_plugin import SPConfig
from sp_plugin.isolation import private_rng

RESULT = "eval.json"
_SMALL_SIDE, _SIDE = 64, 224


@dataclass(frozen=True)
class EvalSettings:
    """Everything that decides what an evaluation measures.

    Attributes:
        backbone: see `sp_bench.backbones`.
        checkpoint: a file; empty for random weights.
        prefix: of the backbone's names in the checkpoint; None: what matches best.
        trust: as for `read_weights`.
        data: the images of all tasks; None where each task has its own.
        task_data: the source of each task that has its own.
        tasks: what is asked.
        side: of the images that the backbone is shown, in pixels; None: 64 for the small
            backbones, 224 for others.
        pool: of token outputs, ``mean`` or ``cls``.
        layer: whose output is taken; None for the last.
        limit: training images of ``data``, at most.
        seed: of the random backbone that some tasks compare with.
    """

    backbone: str
    checkpoint: str = ""
    prefix: str | None = None
    trust: bool = False
    data: str | None = None
    task_data: dict[str, str] = field(default_factory=dict)
    tasks: tuple[str, ...] = ()
    side: int | None = None
    pool: str = "mean"
    layer: str | None = None
    limit: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.pool not in ("mean", "cls"):
            raise UsageError(f"pool: got {self.pool!r}, takes mean or cls")
        if self.side is not None and self.side < 16:
            raise UsageError(f"side: got {self.side}, takes a whole number from 16 up")

    @property
    def pixels(self) -> int:
        """``side``, or what is taken where it is not given."""
        return self.side or (_SMALL_SIDE if self.backbone in SMALL else _SIDE)

    def plain(self) -> dict[str, Any]:
        """As it stands in JSON: lists for tuples."""
        told: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(self)))
        return {**told, "side": self.pixels}


def run_evaluation(
    settings: EvalSettings,
    out: Path,
    tell: Callable[[str], None],
    sources: Sources | None = None,
) -> dict[str, Any]:
    """Ask a backbone the tasks that it was not asked yet, and write what it answered.

    ``out`` holds ``settings.json``, ``tasks.json`` with the answers so far, and in the end
    ``eval.json``; a finished evaluation is read, one that was stopped goes on with the next task.

    Args:
        settings: what is asked, of which backbone.
        out: a new or empty folder, or one of the same settings.
        tell: is told, a line at a time.
        sources: the images; read by ``settings`` where they are not given.

    Returns:
        What is in ``eval.json``: settings, checkpoint, figures, seconds, compute, data, versions,
        machine.

    Raises:
        UsageError, DataError, ConfigError: one line that says what the user has to mend.
    """
    tasks = find_tasks(settings.tasks)
    if (out / RESULT).exists():  # before anything is built or read for it
        claim_output_dir(out, settings)
        done = _read(out / RESULT)
        tell(done["checkpoint"]["told"])
        return done
    backbone, loaded = _backbone(settings)
    tell(loaded["told"])
    sources = sources or _sources(settings)
    splits = {task.name: sources.of(task) for task in tasks}
    claim_output_dir(out, settings)
    pair = _frozen(settings, backbone), _frozen(settings, _random(settings))

    def subject(task: Task) -> TaskContext:
        return TaskContext(*pair, splits[task.name], settings.seed)

    answers = answered(tasks, subject, out, tell)
    result = {
        "settings": settings.plain(),
        "checkpoint": loaded,
        "metrics": all_figures(answers),
        "seconds": {name: answer["seconds"] for name, answer in answers.items()},
        "compute": forward_flops(pair[0].backbone, pair[0].side),
        "data": {
            name: {"name": each.name, "train": len(each.train), "test": len(each.test)}
            for name, each in splits.items()
        },
        "versions": versions(),
        "machine": machine("32-true"),
    }
    write_json(out / RESULT, result)
    return _read(out / RESULT)


def _read(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text()))


def _sources(settings: EvalSettings) -> Sources:
    main = None
    if settings.data is not None:
        main = load_data(settings.data, limit=settings.limit)
    elif settings.limit is not None:
        raise DataError("limit: takes images of all tasks, --data DATA, to choose from")
    return Sources(main, settings.task_data)


def _random(settings: EvalSettings) -> nn.Module:
    with private_rng(settings.seed):
        return make_backbone(settings.backbone, settings.pixels)


def _backbone(settings: EvalSettings) -> tuple[nn.Module, dict[str, Any]]:
    backbone = _random(settings)
    if not settings.checkpoint:
        return backbone, {"path": "", "told": "no checkpoint: random weights"}
    path = Path(settings.checkpoint)
    loaded = load_checkpoint(backbone, path, prefix=settings.prefix, trust=settings.trust)
    told = {"path": path.name, "told": loaded.told(), **dataclasses.asdict(loaded)}
    return backbone, told


def _frozen(settings: EvalSettings, backbone: nn.Module) -> FrozenBackbone:
    return FrozenBackbone(
        backbone,
        side=settings.pixels,
        crop=SPConfig().resolve(settings.pixels).crop_size,
        pool=settings.pool,
        layer=settings.layer,
        device="cuda" if torch.cuda.is_available() else "cpu",
    )
