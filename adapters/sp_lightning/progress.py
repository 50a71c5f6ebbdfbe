"""Progress of training, from a Trainer's public settings."""

from __future__ import annotations

from typing import Any


def training_progress(trainer: Any) -> float | None:
    """Progress in [0, 1], by epochs or by steps, whichever ends training first.

    None where the end is not known, so that SP's weight is constant: training has none, or it is
    that of the only epoch, whose loader has no length.
    """
    parts = []
    max_epochs, batches = trainer.max_epochs or -1, trainer.num_training_batches
    has_length = batches < float("inf")
    if max_epochs > 1 or (max_epochs == 1 and has_length):
        done = trainer.fit_loop.epoch_loop.batch_idx
        within = done / batches if has_length and batches > 0 else 0.0
        parts.append((trainer.current_epoch + within) / max_epochs)
    if trainer.max_steps and trainer.max_steps > 0:
        parts.append(trainer.global_step / trainer.max_steps)
    return min(1.0, max(parts)) if parts else None
