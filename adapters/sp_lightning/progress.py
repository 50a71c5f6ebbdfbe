"""Progress of training, from a Trainer's public settings."""

from __future__ import annotations

from typing import Any


def training_progress(trainer: Any) -> float:
    """Progress in [0, 1], by epochs or by steps, whichever ends training first.

    1 where training has no end, so that SP's weight is constant.
    """
    parts = []
    if trainer.max_epochs and trainer.max_epochs > 0:
        batches = trainer.num_training_batches
        done = trainer.fit_loop.epoch_loop.batch_idx
        within = done / batches if 0 < batches < float("inf") else 0.0
        parts.append((trainer.current_epoch + within) / trainer.max_epochs)
    if trainer.max_steps and trainer.max_steps > 0:
        parts.append(trainer.global_step / trainer.max_steps)
    return min(1.0, max(parts)) if parts else 1.0
