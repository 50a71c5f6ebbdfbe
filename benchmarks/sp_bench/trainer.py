"""Lightning's Trainer as this benchmark uses it: silent, on one device, and stopped by Ctrl-C."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from typing import Any

import pytorch_lightning as pl
import torch


def quiet_trainer(
    precision: str, callbacks: Sequence[Any], device: str = "auto", **more: Any
) -> pl.Trainer:
    """A Trainer that says nothing.

    Args:
        precision: as Lightning names it.
        callbacks: in the order in which they are called.
        device: ``cpu``, ``cuda``, or ``auto`` for a GPU where there is one.
        **more: of Lightning's own arguments.

    >>> quiet_trainer("32-true", [], max_epochs=3).max_epochs
    3
    """
    for name in ("pytorch_lightning", "lightning.pytorch"):
        logging.getLogger(name).setLevel(logging.ERROR)
    # Lightning advises more workers, a logger, and validation: all of it decided here.
    warnings.filterwarnings("ignore", module="pytorch_lightning|lightning_utilities")
    gpu = torch.cuda.is_available() if device == "auto" else device == "cuda"
    return pl.Trainer(
        accelerator="gpu" if gpu else "cpu",
        devices=1,
        precision=precision,
        callbacks=list(callbacks),
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **more,
    )


def fit_stoppably(trainer: pl.Trainer, *given: Any, **more: Any) -> None:
    """``trainer.fit``, with Ctrl-C as KeyboardInterrupt.

    Lightning makes an exit with code 1 of it, and before 2.5 returned as if all were done.
    """
    try:
        trainer.fit(*given, **more)
    except SystemExit as stop:
        if isinstance(stop.__context__, KeyboardInterrupt):
            raise KeyboardInterrupt from None
        raise
    if trainer.interrupted:
        raise KeyboardInterrupt
