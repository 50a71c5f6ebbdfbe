"""One arm as a Lightning training run of a few steps, and the time of its steps.

A round is a whole ``Trainer.fit`` with all callbacks, so the timed step is the one that users run.
The batch is made once and reused, so that loading costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset, default_collate

from sp_bench.methods import Method
from sp_bench.pretrain import new_method
from sp_bench.speed.cases import Case
from sp_bench.speed.settings import SpeedSettings
from sp_bench.speed.timing import Stopwatch
from sp_bench.trainer import fit_stoppably, quiet_trainer

STEPS = 2  # timed steps per round


class RepeatedBatch(Dataset[Any]):
    """One batch of noise images, ``length`` times.

    Args:
        case: side and batch size.
        transform: transform of an image; applied at the first access.
    """

    def __init__(self, case: Case, transform: Callable[[Any], Any]) -> None:
        self.transform = transform
        self._case = case
        self._batch: Any = None
        self.length = 1

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Any:
        if self._batch is None:
            rng, side = np.random.default_rng(0), self._case.side
            pixels = rng.integers(0, 256, (self._case.batch_size, side, side, 3), np.uint8)
            images = [Image.fromarray(image) for image in pixels]
            self._batch = default_collate(
                [(self.transform(image), i) for i, image in enumerate(images)]
            )
        return self._batch


class TimedArm:
    """A method of its own with the callbacks of an arm; a call is one round.

    Args:
        case: method, backbone and sizes.
        settings: device and precision.
        callbacks: function from the method to the callbacks of the arm; default none.

    >>> arm = TimedArm(Case("simclr", "tiny_resnet", 32, 4), SpeedSettings(device="cpu"))
    >>> len(arm())
    2
    """

    def __init__(
        self,
        case: Case,
        settings: SpeedSettings,
        callbacks: Callable[[Method], Sequence[Any]] = lambda method: (),
    ) -> None:
        self.method = new_method(case.settings(settings.precision), seed=0)
        self.method.to(memory_format=torch.channels_last)
        self.callbacks = list(callbacks(self.method))
        self.batch = RepeatedBatch(case, self.method.transform(case.side))
        self._settings = settings

    def __call__(self) -> list[float]:
        """Seconds of every step except the first, which has no SP and creates optimizer state."""
        watch = Stopwatch(self._settings.target)
        self.fit(1 + STEPS, watch)
        return watch.read()[1:]

    def fit(self, steps: int, watch: Stopwatch | None = None) -> None:
        """Train for a number of steps, and time them if there is a stopwatch."""
        self.batch.length = steps
        callbacks = list(self.callbacks)
        if watch is not None:
            callbacks.append(_StepTimer(watch))
        trainer = quiet_trainer(
            self._settings.precision,
            callbacks,
            device=self._settings.device,
            max_steps=steps,
            enable_checkpointing=False,
        )
        fit_stoppably(trainer, self.method, DataLoader(self.batch, batch_size=None))


class _StepTimer(pl.Callback):
    def __init__(self, watch: Stopwatch) -> None:
        self._watch = watch

    def on_train_batch_start(self, *_: Any) -> None:
        self._watch.start()

    def on_train_batch_end(self, *_: Any) -> None:
        self._watch.stop()
