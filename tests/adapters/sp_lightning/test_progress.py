"""Progress of training: by epochs or steps, and unknown where the end is."""

from __future__ import annotations

import math
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from sp_lightning import SpatialProbeCallback, SPCallback
from sp_lightning.progress import training_progress
from torch.utils.data import DataLoader, IterableDataset

from sp_plugin import ConfigError


@pytest.mark.parametrize(
    ("max_epochs", "max_steps", "batches", "expected"),
    (
        (4, -1, 10, 0.375),
        (4, -1, math.inf, 0.25),
        (1, -1, 10, 1.0),
        (1, -1, math.inf, None),
        (1, 30, math.inf, 0.5),
        (4, 30, math.inf, 0.5),
        (-1, 30, math.inf, 0.5),
        (-1, -1, 10, None),
        (-1, -1, math.inf, None),
        (None, -1, 10, None),
    ),
)
def test_progress_by_epochs_and_steps(
    max_epochs: int | None, max_steps: int, batches: float, expected: float | None
) -> None:
    trainer = SimpleNamespace(
        max_epochs=max_epochs, max_steps=max_steps, num_training_batches=batches, current_epoch=1,
        global_step=15, fit_loop=SimpleNamespace(epoch_loop=SimpleNamespace(batch_idx=5)),
    )  # fmt: skip
    assert training_progress(trainer) == expected


class Stream(IterableDataset[Any]):
    """The host's two views, without a length."""

    def __iter__(self) -> Iterator[Any]:
        generator = torch.Generator().manual_seed(0)
        for _ in range(16):
            yield list(torch.rand(2, 3, 32, 32, generator=generator)), 0


def fit_stream(kit: Any, *callbacks: Any) -> Any:
    trainer = kit.trainer(*callbacks, max_epochs=1)
    trainer.fit(kit.new("two_views"), DataLoader(Stream(), 8))
    return trainer


def test_one_epoch_of_unknown_length_trains(kit: Any) -> None:
    callbacks = (SPCallback(weight=0.5, relative_weight=False), SpatialProbeCallback(every=1))
    metrics = fit_stream(kit, *callbacks).callback_metrics
    assert float(metrics["train_sp_weight"]) == 0.5


def test_cooldown_without_an_end_is_refused(kit: Any) -> None:
    with pytest.raises(ConfigError, match=r"^progress: missing, and cooldown_fraction is 0\.3"):
        fit_stream(kit, SPCallback(cooldown_fraction=0.3))
