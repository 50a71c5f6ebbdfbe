"""Pre-training of one arm of one seed, resumable after any epoch."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint

from sp_bench.backbones import make_backbone, set_fused_attention
from sp_bench.callbacks import EpochSeed, RunRecorder, StepProgress
from sp_bench.config import Settings
from sp_bench.data import ImageDataset
from sp_bench.datamodule import PretrainingData, ViewDataset
from sp_bench.errors import UsageError
from sp_bench.methods import METHODS, Method
from sp_bench.methods.channel_views import adapt_views
from sp_bench.pretext_tasks import PRETEXTS, PretextCallback
from sp_bench.results import ARMS_WITHOUT_SP
from sp_bench.task_runner import TASKS_FILE
from sp_bench.trainer import fit_stoppably, quiet_trainer
from sp_plugin import SpatialPrediction, SPConfig
from sp_plugin.features.input_size import find_input_size
from sp_plugin.gradient_balance import is_measurement_step

FINAL = "final.ckpt"


@dataclass
class Pretrained:
    """Trained method and SP (None for the method alone); record, images and FLOPs of all steps."""

    method: Method
    sp: SpatialPrediction | None
    record: RunRecorder
    images_seen: int
    flops: float


def new_method(settings: Settings, seed: int) -> Method:
    """Method with the initial weights of a seed, the same for every arm."""
    pl.seed_everything(seed, verbose=False)
    channels = settings.stats.channels
    backbone = make_backbone(settings.backbone, settings.side, channels)
    feature_dim = find_input_size(backbone, settings.side, channels=channels).feature_dim
    method = METHODS[settings.method](
        backbone,
        feature_dim,
        settings.side,
        channels=channels,
        learning_rate=settings.learning_rate,
        weight_decay=settings.weight_decay,
        batch_size=settings.batch_size,
    )
    # On a CPU in bfloat16 the fused kernel takes several times as long, most of all in the backward
    # pass and with the few tokens of small images.
    set_fused_attention(method, fused=torch.cuda.is_available())
    return method


def check(settings: Settings, images: ImageDataset) -> None:
    """Refuse settings that would fail in the first run, before anything is written.

    Raises:
        UsageError: there are fewer images than a batch has, the backbone is unknown, or the
            method cannot take it.
    """
    new_method(settings, seed=0)
    if len(images) < settings.batch_size:
        raise UsageError(
            f"batch_size: got {settings.batch_size}, takes at most the {len(images)} images"
        )


def short_training_note(settings: Settings, num_images: int) -> str:
    """A line where SP only measures its weight in over a quarter of the steps, else empty.

    >>> print(short_training_note(Settings(batch_size=128, epochs=2), num_images=300))
    epochs: 2 are 4 steps, and in 2 of them SP only measures its weight; more epochs or a
    smaller batch_size show more of SP
    """
    steps = num_images // settings.batch_size * settings.epochs
    measured = sum(map(is_measurement_step, range(steps)))
    if not SPConfig.from_dict(settings.sp).relative_weight or 4 * measured <= steps:
        return ""
    return (
        f"epochs: {settings.epochs} are {steps} steps, and in {measured} of them SP only measures "
        "its weight; more epochs or a smaller batch_size show more of SP"
    )


def pretrain(
    settings: Settings,
    arm: str,
    seed: int,
    images: ImageDataset,
    folder: Path,
    report: Callable[[int, float], None],
) -> Pretrained:
    """Pre-train one arm of one seed, or resume it from its last complete epoch.

    A run whose training had ended is read from its final checkpoint and trains no step.

    Args:
        settings: settings of the comparison.
        arm: ``baseline`` and ``longer`` (whose ``settings`` have more epochs) are the method
            alone; any other arm adds the pretext task of ``settings``.
        seed: seed of weights, order, augmentations and SP.
        images: training images; their labels are not used.
        folder: folder of this run alone.
        report: function that gets the epoch and the completed fraction of it after each step.
    """
    method = new_method(settings, seed)
    method.to(memory_format=torch.channels_last)
    transform = method.transform(settings.side)
    transform = adapt_views(transform, settings.stats, images.kind.is_convertible)
    views = ViewDataset(images, transform, method.channels)
    data = PretrainingData(views, settings.batch_size, settings.workers, seed)
    record = RunRecorder()
    callbacks: list[Any] = [record, EpochSeed(seed), StepProgress(report), _keep_last(folder)]
    pretext = None
    if arm not in ARMS_WITHOUT_SP:
        pretext = PretextCallback(PRETEXTS[settings.pretext], settings.sp, seed)
        callbacks.append(pretext)
    trainer = quiet_trainer(
        settings.precision,
        callbacks,
        max_epochs=settings.epochs,
        reload_dataloaders_every_n_epochs=1,
    )
    checkpoint = _last_whole(folder)
    with _leave_cores_to(settings.workers):
        fit_stoppably(trainer, method, data, ckpt_path=checkpoint)
    if checkpoint != folder / FINAL:
        # These would be metrics of a final checkpoint that could not be read.
        (folder / TASKS_FILE).unlink(missing_ok=True)
        trainer.save_checkpoint(folder / FINAL)
    for path in folder.glob("epoch*.ckpt"):
        path.unlink()
    sp = pretext.sp if pretext else None
    steps = len(images) // settings.batch_size * settings.epochs
    images_seen = steps * settings.batch_size
    return Pretrained(method, sp, record, images_seen, steps * record.flops)


@contextlib.contextmanager
def _leave_cores_to(workers: int) -> Iterator[None]:
    """Compute on the cores that the loading workers do not use.

    More threads than free cores wait for each other: on 2 cores an image took 25 ms instead of 6.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(max(1, threads - workers))
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _keep_last(folder: Path) -> ModelCheckpoint:
    # A file name per epoch: the previous file is removed when the next one is complete.
    return ModelCheckpoint(
        folder,
        filename="epoch{epoch:05d}",
        auto_insert_metric_name=False,
        save_top_k=1,
        save_on_train_epoch_end=True,
    )


def _last_whole(folder: Path) -> Path | None:
    """Last checkpoint that can be read, or None."""
    epochs = sorted(folder.glob("epoch*.ckpt"), reverse=True)
    for path in [*folder.glob(FINAL), *epochs]:
        try:
            torch.load(path, weights_only=True, map_location="cpu")
        except Exception as error:
            logging.getLogger(__name__).warning("%s is incomplete (%s), ignored", path, error)
            continue
        return path
    return None
