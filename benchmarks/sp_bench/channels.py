"""How many channels a backbone gets, and how they are normalised, from settings and images."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from sp_bench.config import CONVERTIBLE, TaskSettings, settings_of_run
from sp_bench.data import DataError
from sp_bench.data.channel_stats import IMAGENET, ChannelStats, measure_stats
from sp_bench.data.dataset import RGB, ImageKind
from sp_bench.errors import UsageError
from sp_bench.task_data import Sources
from sp_bench.tasks import Task

AnySettings = TypeVar("AnySettings", bound=TaskSettings)


def resolve_stats(
    settings: AnySettings,
    sources: Sources,
    tasks: Sequence[Task],
    log: Callable[[str], None],
    checkpoints: Sequence[Path] = (),
    pretrained: ChannelStats | None = None,
) -> AnySettings:
    """The settings with mean and standard deviation of each channel, and a check of all images.

    Statistics that are not given are those of the checkpoint's run or of the pretrained weights;
    or ImageNet's for RGB; or are measured on the training images that all tasks share, or else on
    those of the first task.

    Args:
        settings: settings of a comparison or an evaluation.
        sources: images of the tasks.
        tasks: tasks, at least one.
        log: called with a line on what was measured.
        checkpoints: checkpoints whose backbones are evaluated.
        pretrained: statistics of the pretrained weights, for RGB.

    Returns:
        The settings; ``mean`` and ``std`` stay None for RGB with ImageNet's statistics.

    Raises:
        UsageError: ``channels`` or ``mean`` is of other images than these, or the checkpoints were
            trained with different statistics.
        DataError: the images of a task have other channels than the backbone takes.
    """
    images = (sources.main or sources.of(tasks[0])).train
    stats = settings.given_stats or _trained_stats(checkpoints)
    if stats is None and images.kind.is_convertible:
        if pretrained is not None and settings.channels in (None, RGB.channels):
            stats = pretrained
        elif checkpoints and settings.channels is None:
            stats = IMAGENET  # as nearly all that others have trained
    channels = _count_channels(settings, images.kind, stats)
    for task in tasks:
        splits = sources.of(task)
        for kind in (splits.train.kind, splits.test.kind):
            if not _fits(kind, channels):
                raise DataError(
                    f"task {task.name}: images of {kind}, for a backbone of {channels} channels"
                )
    if stats is None and channels == RGB.channels and images.kind.is_convertible:
        return settings
    if stats is None:
        stats = measure_stats(images, channels)
        numbers = "; ".join(" ".join(f"{x:.4g}" for x in row) for row in (stats.mean, stats.std))
        log(
            f"images of {images.kind}; mean and std of each channel, measured on the training "
            f"images: {numbers}"
        )
    values = {"mean": None, "std": None} if stats == IMAGENET else dataclasses.asdict(stats)
    changed: Any = settings
    resolved: AnySettings = dataclasses.replace(changed, **values)
    return resolved


def _trained_stats(checkpoints: Sequence[Path]) -> ChannelStats | None:
    """Statistics with which sp-bench trained the checkpoints; None if others did."""
    stats: dict[ChannelStats | None, Path] = {}
    for path in checkpoints:
        run = settings_of_run(path)
        measured = run.get("mean") and ChannelStats(tuple(run["mean"]), tuple(run["std"]))
        stats[(measured or IMAGENET) if run else None] = path
    if len(stats) > 1 and None in stats:
        raise UsageError(
            f"mean: the statistics of the channels are unknown for {stats[None]}, and known for "
            "others; takes --mean and --std for all"
        )
    if len(stats) > 1:
        raise UsageError(
            "mean: the checkpoints were trained with different statistics of the channels; takes "
            "checkpoints of one kind of images"
        )
    return next(iter(stats), None)


def _count_channels(settings: TaskSettings, kind: ImageKind, stats: ChannelStats | None) -> int:
    if settings.channels is not None and not kind.is_convertible:
        raise UsageError(
            f"channels: got {settings.channels} for images of {kind}; takes it for grey and RGB "
            "images of 8 bits only"
        )
    if stats is None:
        return settings.channels or kind.channels
    if not _fits(kind, stats.channels) or settings.channels not in (None, stats.channels):
        what = f"{settings.channels} channels" if settings.channels else f"images of {kind}"
        raise UsageError(
            f"mean: {stats.channels} channels, as given or in the checkpoint's run, for {what}"
        )
    return stats.channels


def _fits(kind: ImageKind, channels: int) -> bool:
    return kind.channels == channels or (kind.is_convertible and channels in CONVERTIBLE)
