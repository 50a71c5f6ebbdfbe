"""Training that is stopped by Ctrl-C or SIGTERM."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from sp_bench.trainer import fit_stoppably, quiet_trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset


class SlowImages(Dataset[Tensor]):
    """Image 6 is slow and then sends a signal to the process that waits for it."""

    def __init__(self, number: signal.Signals) -> None:
        self.number = number

    def __len__(self) -> int:
        return 100

    def __getitem__(self, index: int) -> Tensor:
        if index >= 6:
            time.sleep(0.5)
        if index == 6:
            os.kill(os.getppid(), self.number)
        return torch.rand(2)


class Module(pl.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 1)

    def training_step(self, batch: Tensor, index: int) -> Tensor:
        return self.layer(batch).sum()

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), 0.1)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stop_ends_loading_workers(number: signal.Signals) -> None:
    trainer = quiet_trainer("32-true", [], "cpu", max_epochs=1, enable_checkpointing=False)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt) as stopped:
            fit_stoppably(trainer, Module(), DataLoader(SlowImages(number), num_workers=2))
    finally:
        signal.signal(signal.SIGINT, before)
    # While the exception is held, as it is by the exit of the command that follows.
    assert stopped.value.__context__ is not None
    assert not multiprocessing.active_children()
