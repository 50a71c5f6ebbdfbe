"""Training steps: with and without SP, with peers, and with more crops.

A round is a whole ``Trainer.fit`` with all callbacks, so the timed step is the one that users run.
The batch is made once and reused, so that loading costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from PIL import Image
from sp_lightning import SpatialProbeCallback, SPCallback
from torch.utils import benchmark
from torch.utils.data import DataLoader, Dataset, default_collate

from sp_bench.methods import Method
from sp_bench.pretrain import new_method
from sp_bench.speed.cases import (
    ALONE,
    PEER_ARMS,
    PLAIN,
    SP,
    WHOLE,
    Arm,
    Case,
    host_view_arms,
    k_arms,
    k_case,
    peer_cases,
    sp_arms,
    step_cases,
)
from sp_bench.speed.cost_lower_bound import CostLowerBound, count_lower_bound
from sp_bench.speed.peers import PeerCallback
from sp_bench.speed.settings import SpeedSettings
from sp_bench.speed.timing import interleaved, peak_bytes, timed
from sp_bench.trainer import fit_stoppably, quiet_trainer

CROPS, PARTS, SAMPLING = "crops alone", "SP's own parts", "sampling crops"
PART_ARMS = (CROPS, PARTS, SAMPLING)
STEPS = 2  # timed steps per round
Jobs = dict[str, Callable[[], dict[str, Any]]]


def step_jobs(settings: SpeedSettings) -> Jobs:
    """Step ratio of every case, with its lower bound."""
    return {
        case.name: partial(
            measure, case, (ALONE, *sp_arms(case)), settings, measures_lower_bound=True
        )
        for case in step_cases(settings)
    }


def peer_jobs(settings: SpeedSettings) -> Jobs:
    """The same step with SP and with peers."""
    return {
        case.name: partial(
            measure, case, (ALONE, SP, WHOLE, *host_view_arms(case), *PEER_ARMS), settings
        )
        for case in peer_cases(settings)
    }


def k_jobs(settings: SpeedSettings) -> Jobs:
    """The step with 2 to 8 crops."""
    case = k_case(settings)
    return {case.name: partial(measure, case, (ALONE, *k_arms(settings)), settings)}


def measure(
    case: Case,
    arms: Sequence[Arm],
    settings: SpeedSettings,
    measures_lower_bound: bool = False,
) -> dict[str, Any]:
    """Time arms in turns, and measure the memory of each.

    Args:
        case: training run that the arms add to.
        arms: arms, the first of which adds nothing.
        settings: device and number of rounds.
        measures_lower_bound: whether SP's crops and SP's own parts are timed on their own, and
            operations counted; default False.

    Returns:
        ``seconds`` by arm and round; ``peak_bytes`` by arm; with ``measures_lower_bound`` also
        ``flops``, ``share``, of the images that SP sees, and ``crop_side``.
    """
    runs = {arm.name: TimedArm(case, arm, settings) for arm in arms}
    rounds: dict[str, Callable[[], list[float]]] = dict(runs)
    result: dict[str, Any] = {}
    if measures_lower_bound:
        method = new_method(case.settings(settings.precision), 0)
        bound = CostLowerBound(case, settings, method, SP.sp or {})
        parts = bound.run_crops, bound.run_parts, bound.sample_crops
        rounds |= {name: timed(part, STEPS) for name, part in zip(PART_ARMS, parts, strict=True)}
        result["flops"] = count_lower_bound(partial(runs[PLAIN].fit, 1), bound.run_crops)
        result["share"] = bound.share
        result["crop_side"] = bound.crop_size
    result["peak_bytes"] = {
        name: peak_bytes(partial(run.fit, 2), settings.target) for name, run in runs.items()
    }
    # The measurement of memory has warmed up all arms.
    result["seconds"] = interleaved(rounds, settings.repeats)
    return result


class TimedArm:
    """A method of its own with what an arm adds to its training; a call is one round.

    Args:
        case: method, backbone and sizes.
        arm: what is added.
        settings: device and precision.

    >>> arm = TimedArm(Case("simclr", "tiny_resnet", 32, 4), ALONE, SpeedSettings(device="cpu"))
    >>> len(arm())
    1
    """

    def __init__(self, case: Case, arm: Arm, settings: SpeedSettings) -> None:
        self.method: Method = new_method(case.settings(settings.precision), seed=0)
        self.method.to(memory_format=torch.channels_last)
        self.callbacks: list[Any] = []
        if arm.sp is not None:
            self.callbacks.append(SPCallback("backbone", arm.sp))
        if arm.has_probe:
            self.callbacks.append(SpatialProbeCallback("backbone", every=1))
        if arm.peer:
            self.callbacks.append(PeerCallback(arm.peer, self.method))
        self._batch = _RepeatedBatch(case, self.method.transform(case.side))
        self._settings = settings

    def __call__(self) -> list[float]:
        """Seconds of a step, without the first, which has no SP and creates optimizer state."""
        timer = _BlockTimer()
        self.fit(1 + STEPS, timer)
        return [timer.seconds / STEPS]

    def fit(self, steps: int, *callbacks: pl.Callback) -> None:
        """Train for a number of steps."""
        self._batch.length = steps
        trainer = quiet_trainer(
            self._settings.precision,
            [*self.callbacks, *callbacks],
            device=self._settings.device,
            max_steps=steps,
            enable_checkpointing=False,
        )
        fit_stoppably(trainer, self.method, DataLoader(self._batch, batch_size=None))


class _RepeatedBatch(Dataset[Any]):
    """One batch of noise images, ``length`` times."""

    def __init__(self, case: Case, transform: Callable[[Any], Any]) -> None:
        self.length = 1
        self.transform = transform  # SPCallback looks for it
        self._case = case
        self._batch: Any = None

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Any:
        if self._batch is None:
            rng, side = np.random.default_rng(0), self._case.side
            pixels = rng.integers(0, 256, (self._case.batch_size, side, side, 3), np.uint8)
            images = [self.transform(Image.fromarray(image)) for image in pixels]
            self._batch = default_collate([(image, i) for i, image in enumerate(images)])
        return self._batch


class _BlockTimer(pl.Callback):
    """Seconds from the start of the second step to the end of the last one."""

    seconds = 0.0

    def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, index: int) -> None:
        if index == 1:
            self._start = benchmark.timer()

    def on_train_batch_end(
        self, trainer: Any, module: Any, outputs: Any, batch: Any, index: int
    ) -> None:
        if index == STEPS:
            self.seconds = benchmark.timer() - self._start
