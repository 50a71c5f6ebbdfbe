"""A host and what is added to it, trained by Lightning a few steps at a time, and timed.

Each turn is a whole ``Trainer.fit``, callbacks and all: the step that is timed is the one that
users run. The batch is made once and given again, so that loading costs the same: nothing.
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

STEPS = 2  # that count, in a turn


class OneBatch(Dataset[Any]):
    """The same batch as often as it is asked for, made by ``transform`` when it is first needed.

    The images are noise: what is in them costs nothing.
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
            images = [Image.fromarray(each) for each in pixels]
            self._batch = default_collate(
                [(self.transform(image), i) for i, image in enumerate(images)]
            )
        return self._batch


class Fitted:
    """One arm: its own host, with its own callbacks.

    Args:
        case: the host.
        settings: device and precision.
        callbacks: what is added, given the host.

    >>> fitted = Fitted(Case("simclr", "tiny_resnet", 32, 4), SpeedSettings(device="cpu"))
    >>> len(fitted())
    2
    """

    def __init__(
        self,
        case: Case,
        settings: SpeedSettings,
        callbacks: Callable[[Method], Sequence[Any]] = lambda method: (),
    ) -> None:
        host = case.settings(settings.precision)
        self.method = new_method(host, seed=0)
        self.method.to(memory_format=torch.channels_last)
        self.callbacks = list(callbacks(self.method))
        self.batch = OneBatch(case, self.method.transform(case.side))
        self._settings = settings

    def __call__(self) -> list[float]:
        """Seconds of each step but the first, which makes the optimizer's state and has no SP."""
        watch = Stopwatch(self._settings.target)
        self.fit(1 + STEPS, watch)
        return watch.read()[1:]

    def fit(self, steps: int, watch: Stopwatch | None = None) -> None:
        """Train for some steps."""
        self.batch.length = steps
        watching = [] if watch is None else [_Watching(watch)]
        trainer = quiet_trainer(
            self._settings.precision,
            [*self.callbacks, *watching],
            device=self._settings.device,
            max_steps=steps,
            enable_checkpointing=False,
        )
        fit_stoppably(trainer, self.method, DataLoader(self.batch, batch_size=None))


class _Watching(pl.Callback):
    def __init__(self, watch: Stopwatch) -> None:
        self._watch = watch

    def on_train_batch_start(self, *_: Any) -> None:
        self._watch.start()

    def on_train_batch_end(self, *_: Any) -> None:
        self._watch.stop()
