"""Callbacks of a pre-training run: its curve and its time, its seeds, and its progress bar."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from sp_plugin.isolation import hash_seed

COUNTED = 4  # steps


class Record(pl.Callback):
    """Keeps the learning curve, the seconds and the compute of a run, over interruptions too.

    Attributes:
        curve: one dict an epoch.
        seconds: of training.
        flops: forward operations of a step, SP's among them, as torch counts them: the least of
            the first four, since in some a relative weight is measured.
    """

    def __init__(self) -> None:
        self.flops = 0.0
        self._counter: FlopCounterMode | None = None
        self.curve: list[dict[str, float]] = []
        self.seconds = 0.0
        self._since = 0.0

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._since = time.perf_counter()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.seconds += time.perf_counter() - self._since
        told = {
            name.removeprefix("train_"): float(value)
            for name, value in trainer.callback_metrics.items()
        }
        self.curve.append({"epoch": trainer.current_epoch, **told})

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step < COUNTED:
            self._counter = FlopCounterMode(display=False)
            self._counter.__enter__()

    def on_before_backward(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, loss: Tensor
    ) -> None:
        if self._counter is not None:
            self._counter.__exit__(None, None, None)
            flops = float(self._counter.get_total_flops())
            self.flops = min(self.flops or flops, flops)
            self._counter = None

    def state_dict(self) -> dict[str, Any]:
        return {"curve": self.curve, "seconds": self.seconds, "flops": self.flops}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.curve = state_dict["curve"]
        self.seconds = state_dict["seconds"]
        self.flops = state_dict["flops"]


class EpochSeed(pl.Callback):
    """Seeds what hosts draw in the main process (masks, drop-path) anew for each epoch.

    A run that goes on then draws what it would have drawn.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        key = hash_seed(self.seed, trainer.current_epoch)
        torch.manual_seed(key)
        random.seed(key)
        np.random.seed(key % 2**32)  # noqa: NPY002  hosts draw from this one


class Ticks(pl.Callback):
    """Tells a progress bar of each step: which epoch, and what share of it is done."""

    def __init__(self, tell: Callable[[int, float], None]) -> None:
        self.tell = tell

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        self.tell(trainer.current_epoch, (batch_idx + 1) / trainer.num_training_batches)
