"""One pre-training run: one arm of one seed, which goes on where it was stopped."""

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

from sp_bench.backbones import make_backbone, suit_attention
from sp_bench.callbacks import EpochSeed, Record, Ticks
from sp_bench.config import Settings
from sp_bench.data import ImageDataset
from sp_bench.datamodule import PretrainingData, Views
from sp_bench.errors import UsageError
from sp_bench.methods import METHODS, Method
from sp_bench.pretext_tasks import PRETEXTS, PretextCallback
from sp_bench.results import ARMS_WITHOUT_SP
from sp_bench.task_runner import ANSWERS
from sp_bench.trainer import fit_stoppably, quiet_trainer
from sp_plugin import SpatialPrediction
from sp_plugin.features.input_size import find_input_size

FINAL = "final.ckpt"


@dataclass
class Pretrained:
    """What a run left: the method with its weights, SP's part, the curve, time and compute."""

    method: Method
    sp: SpatialPrediction | None
    record: Record
    images_seen: int
    flops: float


def new_method(settings: Settings, seed: int) -> Method:
    """The host with the initial weights of this seed, the same for both arms."""
    pl.seed_everything(seed, verbose=False)
    backbone = make_backbone(settings.backbone, settings.side)
    width = find_input_size(backbone, settings.side).feature_dim
    method = METHODS[settings.method](
        backbone,
        width,
        settings.side,
        learning_rate=settings.learning_rate,
        weight_decay=settings.weight_decay,
        batch_size=settings.batch_size,
    )
    suit_attention(method)
    return method


def check(settings: Settings, images: ImageDataset) -> None:
    """Refuse what would fail in the first run, before anything is written.

    Raises:
        UsageError: fewer images than a batch, no such backbone, or one that the method cannot
            take.
    """
    new_method(settings, seed=0)
    if len(images) < settings.batch_size:
        raise UsageError(
            f"batch_size: got {settings.batch_size}, takes at most the {len(images)} images"
        )


def pretrain(
    settings: Settings,
    arm: str,
    seed: int,
    images: ImageDataset,
    folder: Path,
    tell: Callable[[int, float], None],
) -> Pretrained:
    """Pre-train one arm of one seed in ``folder``; goes on from its last whole epoch.

    One that was stopped while it was evaluated is read back and trains no step more.

    Args:
        settings: of the comparison.
        arm: ``baseline`` and ``longer`` are the method alone, for the last with more epochs in
            ``settings``; any other has SP, or a peer in its place, beside it.
        seed: of weights, order, augmentations and SP.
        images: training images; their labels are not used.
        folder: of this run alone.
        tell: called after each step with the epoch and the share of it that is done.
    """
    method = new_method(settings, seed)
    method.to(memory_format=torch.channels_last)
    views = Views(images, method.transform(settings.side))
    data = PretrainingData(views, settings.batch_size, settings.workers, seed)
    sp = None
    if arm not in ARMS_WITHOUT_SP:
        sp = PretextCallback(PRETEXTS[settings.pretext], settings.sp, seed)
    record = Record()
    callbacks: list[Any] = [record, EpochSeed(seed), Ticks(tell), _keep_last(folder)]
    trainer = quiet_trainer(
        settings.precision,
        [*callbacks, sp] if sp else callbacks,
        max_epochs=settings.epochs,
        reload_dataloaders_every_n_epochs=1,
    )
    start = _last_whole(folder)
    with _beside(settings.workers):
        fit_stoppably(trainer, method, data, ckpt_path=start)
    if start != folder / FINAL:
        (folder / ANSWERS).unlink(missing_ok=True)  # of a final.ckpt that was not whole
        trainer.save_checkpoint(folder / FINAL)
    for path in folder.glob("epoch*.ckpt"):
        path.unlink()
    steps = len(images) // settings.batch_size * settings.epochs
    seen = steps * settings.batch_size
    return Pretrained(method, sp.sp if sp else None, record, seen, steps * record.flops)


@contextlib.contextmanager
def _beside(workers: int) -> Iterator[None]:
    """Compute on the cores that the loading workers leave.

    More threads than free cores wait for each other: 25 ms an image instead of 6 were measured
    on 2 cores.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(max(1, threads - workers))
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _keep_last(folder: Path) -> ModelCheckpoint:
    # A name for each epoch: the last one is removed when the next is whole.
    return ModelCheckpoint(
        folder,
        filename="epoch{epoch:05d}",
        auto_insert_metric_name=False,
        save_top_k=1,
        save_on_train_epoch_end=True,
    )


def _last_whole(folder: Path) -> Path | None:
    epochs = sorted(folder.glob("epoch*.ckpt"), reverse=True)
    for path in [*folder.glob(FINAL), *epochs]:
        try:
            torch.load(path, weights_only=True, map_location="cpu")
        except Exception as error:
            logging.getLogger(__name__).warning("%s is not whole (%s); left out", path, error)
            continue
        return path
    return None
