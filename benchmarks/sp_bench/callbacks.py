"""Callbacks of a pre-training run: its record, its seeds and its progress bar."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from sp_bench.datamodule import seed_global_rngs

COUNTED_STEPS = 4  # first steps in which operations are counted


class RunRecorder(pl.Callback):
    """Records the learning curve, the seconds and the compute of a run, across interruptions.

    Attributes:
        curve: metrics of each epoch.
        seconds: seconds of training.
        flops: forward operations of a step, SP's included, counted by torch: of the one of the
            first four steps that has the fewest, since the relative weight is measured in others.
        flops_with_backward: forward and backward operations of that step. Passes of a teacher have
            no backward, so that SP's share of them is not its share of the forward operations.
    """

    def __init__(self) -> None:
        self.flops = 0.0
        self.flops_with_backward = 0.0
        self._forward_flops = 0.0
        self._counter: FlopCounterMode | None = None
        self.curve: list[dict[str, float]] = []
        self.seconds = 0.0
        self._epoch_start = 0.0

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._epoch_start = time.perf_counter()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.seconds += time.perf_counter() - self._epoch_start
        metrics = {
            name.removeprefix("train_"): float(value)
            for name, value in trainer.callback_metrics.items()
        }
        self.curve.append({"epoch": trainer.current_epoch, **metrics})

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step < COUNTED_STEPS:
            self._counter = FlopCounterMode(display=False)
            self._counter.__enter__()

    def on_before_backward(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, loss: Tensor
    ) -> None:
        if self._counter is not None:
            self._forward_flops = float(self._counter.get_total_flops())

    def on_after_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._counter is not None:
            self._counter.__exit__(None, None, None)
            if not self.flops or self._forward_flops < self.flops:
                self.flops = self._forward_flops
                self.flops_with_backward = float(self._counter.get_total_flops())
            self._counter = None

    def state_dict(self) -> dict[str, Any]:
        names = ("curve", "seconds", "flops", "flops_with_backward")
        return {name: getattr(self, name) for name in names}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.__dict__.update(state_dict)


class EpochSeed(pl.Callback):
    """Seeds the draws of a method in the main process (masks, drop-path) at each epoch.

    A resumed run then draws what an uninterrupted one would have drawn.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        seed_global_rngs(self.seed, trainer.current_epoch)


class StepProgress(pl.Callback):
    """Calls ``report`` with the epoch, from 0, and its completed fraction after each step."""

    def __init__(self, report: Callable[[int, float], None]) -> None:
        self.report = report

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        self.report(trainer.current_epoch, (batch_idx + 1) / trainer.num_training_batches)
