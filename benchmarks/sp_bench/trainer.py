"""Lightning's Trainer for this benchmark: silent, on one device, interruptible."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Sequence
from typing import Any

import pytorch_lightning as pl
import torch


def quiet_trainer(
    precision: str, callbacks: Sequence[Any], device: str = "auto", **options: Any
) -> pl.Trainer:
    """A Trainer without output.

    Args:
        precision: precision by its name in Lightning.
        callbacks: callbacks in the order of their calls.
        device: ``cpu``, ``cuda``, or ``auto`` for a GPU if there is one.
        **options: further arguments of Lightning's Trainer.

    >>> quiet_trainer("32-true", [], max_epochs=3).max_epochs
    3
    """
    for name in ("pytorch_lightning", "lightning.pytorch"):
        logging.getLogger(name).setLevel(logging.ERROR)
    gpu = torch.cuda.is_available() if device == "auto" else device == "cuda"
    return pl.Trainer(
        accelerator="gpu" if gpu else "cpu",
        devices=1,
        precision=precision,
        callbacks=list(callbacks),
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **options,
    )


def fit_stoppably(trainer: pl.Trainer, *args: Any, **options: Any) -> None:
    """Call ``trainer.fit``; Ctrl-C and SIGTERM raise KeyboardInterrupt.

    Lightning turns Ctrl-C into an exit with code 1, and before 2.5 returned as if training had
    ended; SIGTERM, which clusters send, into an exit with code 0.
    """
    try:
        trainer.fit(*args, **options)
    except SystemExit as stop:
        # The frames hold the loader's iterator, which ends its workers when it is freed; at the end
        # of the process it would leave them, and they print errors.
        traceback.clear_frames((stop.__context__ or stop).__traceback__)
        raise KeyboardInterrupt from None
    if trainer.interrupted:
        raise KeyboardInterrupt
