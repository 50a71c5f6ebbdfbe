"""Evaluation of backbones on tasks, from checkpoints or as published."""

from __future__ import annotations

import dataclasses
import itertools
import json
import re
from collections.abc import Callable, Container, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from sp_bench.backbones import make_backbone, model_input
from sp_bench.channels import resolve_stats
from sp_bench.checkpoints import load_checkpoint, weights_digest
from sp_bench.config import EvalSettings, claim_output_dir, settings_of_run
from sp_bench.data import DataError
from sp_bench.data.channel_stats import IMAGENET
from sp_bench.environment import machine, versions
from sp_bench.errors import UsageError
from sp_bench.flops import forward_flops
from sp_bench.frozen_backbone import FrozenBackbone
from sp_bench.method_evaluation import crop_size_of_tasks, evaluation_device, pool_of_method
from sp_bench.methods import METHODS
from sp_bench.pretrain import FINAL
from sp_bench.progress import report_skipped
from sp_bench.results import write_json
from sp_bench.run_lock import locked
from sp_bench.task_data import Sources, load_main
from sp_bench.task_runner import merge_metrics, run_tasks
from sp_bench.tasks import Task, find_tasks
from sp_plugin.isolation import private_rng

RESULT, _SETTINGS = "eval.json", "settings.json"
PRETRAINED = "pretrained"


def run_evaluations(
    models: Sequence[EvalSettings], out: Path, log: Callable[[str], None], *, control: bool = False
) -> list[Path]:
    """Evaluate several backbones on the same tasks and images, each in a folder of its own.

    The images are loaded and decoded once for all.

    Args:
        models: settings, which differ in the backbone and its weights.
        out: folder of these folders, which are named after the backbones.
        log: function that gets each line of output.
        control: whether the first backbone is evaluated with random weights too, unless it has
            these: at the same size and with the same normalisation.

    Returns:
        The folders.

    Raises:
        UsageError, DataError, ConfigError: as for `run_evaluation`; or ``out`` is itself the folder
            of an evaluation.
    """
    if (out / _SETTINGS).exists():
        raise UsageError(f"out: {out} has one evaluation; takes a folder of several, or a new one")
    results: dict[Path, dict[str, Any]] = {}
    sources: Sources | None = None
    first = models[0]
    count = len(models) + (control and bool(first.pretrained or first.checkpoint))
    for number in range(count):
        if number < len(models):
            settings = models[number]
        else:
            settings = _with_random_weights(first, next(iter(results.values()))["settings"])
        folder = _new_folder(out, settings, results)
        if sources is None and not (folder / RESULT).exists():
            sources = load_sources(settings, find_tasks(settings.tasks), log)
        log(f"{folder.name}: model {number + 1} of {count}")
        results[folder] = run_evaluation(settings, folder, log, sources)
    return list(results)


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
    if settings.checkpoint:
        file, here = Path(settings.checkpoint), Path.cwd()
        log(f"checkpoint: {file.relative_to(here) if file.is_relative_to(here) else file}")
    path = out / RESULT
    if path.exists():  # no image and no weight is loaded for a finished one
        stored = _with_stored_stats(settings, out)
        stored = dataclasses.replace(stored, pool=resolved_pool(stored))
        claim_output_dir(out, stored, _digest(settings))
        finished = _read_json(path)
        log(finished["checkpoint"]["summary"])
        return finished
    sources = sources or load_sources(settings, tasks, log)
    splits = {task.name: sources.of(task) for task in tasks}
    checkpoints = [Path(settings.checkpoint)] if settings.checkpoint else []
    own = model_input(settings.backbone).stats if settings.pretrained else None
    settings = resolve_stats(settings, sources, tasks, log, checkpoints, own)
    backbone, checkpoint = _load_backbone(settings)
    log(checkpoint["summary"])
    pool = resolved_pool(settings, backbone)
    if settings.pool is None and pool != "mean":
        log(f"pool: {pool}, as in the checkpoint's run")
    settings = dataclasses.replace(settings, pool=pool)
    claim_output_dir(out, settings, _digest(settings))
    frozen, untrained = _freeze(settings, backbone), _freeze(settings, _build(settings))
    with locked(out):
        by_task = run_tasks(tasks, frozen, untrained, sources, settings.seed, out, log)
    result = {
        "settings": settings.plain(),
        "checkpoint": checkpoint,
        "metrics": merge_metrics(by_task),
        "seconds": {name: task["seconds"] for name, task in by_task.items()},
        "compute": forward_flops(frozen.backbone, frozen.side, settings.stats.channels),
        "data": {
            name: {
                "name": images.name,
                "train": len(images.train),
                "test": len(images.test),
                "skipped": list(images.skipped),
            }
            for name, images in splits.items()
        },
        "versions": versions(),
        "machine": machine("bf16-mixed" if settings.bf16 else "32-true"),
    }
    write_json(path, result)
    return _read_json(path)


def resolved_pool(settings: EvalSettings, backbone: nn.Module | None = None) -> str:
    """``pool``, or its default: that of the checkpoint's run if sp-bench made it, else ``mean``.

    Args:
        settings: backbone and checkpoint.
        backbone: the backbone; None: it is built if the default depends on its tokens.
    """
    if settings.pool or not settings.checkpoint:
        return settings.pool or "mean"
    name = settings_of_run(Path(settings.checkpoint)).get("method")
    if name not in METHODS or METHODS[name].pool == "mean":
        return "mean"
    return pool_of_method(METHODS[name].pool, backbone or _build(settings))


def _freeze(settings: EvalSettings, backbone: nn.Module) -> FrozenBackbone:
    return FrozenBackbone(
        backbone,
        side=settings.resolved_side,
        crop_size=crop_size_of_tasks(settings.resolved_side),
        pool=settings.pool or "mean",
        layer=settings.layer,
        device=evaluation_device(),
        stats=settings.stats,
        bf16=settings.bf16,
    )


def load_sources(
    settings: EvalSettings, tasks: Sequence[Task], log: Callable[[str], None]
) -> Sources:
    """The images of all tasks, and a line on those that are left out.

    Raises:
        DataError: they cannot be used, or ``limit`` has no images to choose from.
    """
    main = None
    if settings.data is not None:
        main = load_main(settings.data, tasks, settings.task_data, limit=settings.limit)
    elif settings.limit is not None:
        raise DataError("limit: takes images of all tasks, --data DATA, to choose from")
    sources = Sources(main, settings.task_data)
    for task in tasks:
        sources.of(task)
    report_skipped(sources.skipped, log)
    return sources


def _load_backbone(settings: EvalSettings) -> tuple[nn.Module, dict[str, Any]]:
    """Backbone with its weights, and what ``eval.json`` holds of the loading."""
    published = settings.pretrained and not settings.checkpoint
    backbone = _build(settings, published)
    if published:
        said = (
            f"pretrained weights of {settings.backbone}: {settings.resolved_side} px, normalised "
            f"by mean {_numbers(settings.stats.mean)} and std {_numbers(settings.stats.std)}"
        )
        return backbone, {"path": PRETRAINED, "summary": said}
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


def _digest(settings: EvalSettings) -> str:
    """Digest of the weights that are on disk: of a checkpoint, or of a folder of Hugging Face."""
    source, _, name = settings.backbone.partition(":")
    if settings.checkpoint:
        return weights_digest(Path(settings.checkpoint))
    if settings.pretrained and source == "hf":
        return weights_digest(Path(name).expanduser())
    return ""


def _build(settings: EvalSettings, pretrained: bool = False) -> nn.Module:
    side, channels = settings.resolved_side, settings.stats.channels
    with private_rng(settings.seed):
        return make_backbone(settings.backbone, side, channels, pretrained=pretrained)


def _with_random_weights(settings: EvalSettings, stored: Mapping[str, Any]) -> EvalSettings:
    """Control of an evaluation: random weights, at the size, pooling and statistics it ended up."""
    return dataclasses.replace(
        settings,
        pretrained=False,
        checkpoint="",
        side=stored["side"],
        pool=stored["pool"],
        mean=tuple(stored["mean"] or IMAGENET.mean),
        std=tuple(stored["std"] or IMAGENET.std),
    )


def _new_folder(out: Path, settings: EvalSettings, taken: Container[Path]) -> Path:
    """Folder that is named after the backbone and its weights, without the folders above these."""
    source, _, own = settings.backbone.rpartition(":")
    if Path(own).expanduser().is_dir():
        own = Path(own).expanduser().resolve().name
    checkpoint = Path(settings.checkpoint)
    weights = checkpoint.parent.name if checkpoint.name == FINAL else checkpoint.stem
    if not (settings.pretrained or settings.checkpoint):
        weights = "random"
    name = re.sub(r"[^\w.+]+", "-", " ".join(filter(None, (source, own, weights))))
    names = itertools.chain([name], (f"{name}-{number}" for number in itertools.count(2)))
    return next(out / name for name in names if out / name not in taken)


def _numbers(values: Sequence[float]) -> str:
    return " ".join(f"{value:.4g}" for value in values)


def _with_stored_stats(settings: EvalSettings, out: Path) -> EvalSettings:
    """The settings with the statistics as a finished evaluation stored them."""
    stored = _read_json(out / _SETTINGS)
    if settings.given_stats == IMAGENET:
        return dataclasses.replace(settings, mean=None, std=None)
    if settings.mean is not None or not stored.get("mean"):
        return settings
    return dataclasses.replace(settings, mean=tuple(stored["mean"]), std=tuple(stored["std"]))


def _read_json(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text()))
