"""Timing of arms that take turns, so that a machine that slows down slows down all of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

Rounds = list[list[float]]  # seconds of an arm's steps, by round
_RESAMPLES = 2000


class Stopwatch:
    """Records the seconds between ``start`` and ``stop``, any number of times.

    On a GPU the times are those of its own events. The processor does not wait for the GPU in
    between, so that its work overlaps with the GPU's as in training.

    Args:
        device: device that does the work.
        clock: function that returns the processor's time in seconds; default
            ``time.perf_counter``.

    >>> ticks = iter([1.0, 3.5])
    >>> watch = Stopwatch(torch.device("cpu"), lambda: next(ticks))
    >>> watch.start(); watch.stop(); watch.read()
    [2.5]
    """

    def __init__(
        self, device: torch.device, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self._cuda = device.type == "cuda"
        self._clock = clock
        self._marks: list[Any] = []

    def start(self) -> None:
        """Start a measurement."""
        self._mark()

    def stop(self) -> None:
        """End the last measurement."""
        self._mark()

    def read(self) -> list[float]:
        """Seconds of all measurements since the last call."""
        marks, self._marks = self._marks, []
        pairs = zip(marks[::2], marks[1::2], strict=True)
        if not self._cuda:
            return [end - start for start, end in pairs]
        torch.cuda.synchronize()
        return [start.elapsed_time(end) / 1000 for start, end in pairs]

    def _mark(self) -> None:
        if not self._cuda:
            self._marks.append(self._clock())
            return
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        self._marks.append(event)


def repeated(work: Callable[[], object], times: int, watch: Stopwatch) -> Callable[[], list[float]]:
    """An arm that calls a function ``times`` times per round, and times every call."""

    def run_round() -> list[float]:
        for _ in range(times):
            watch.start()
            work()
            watch.stop()
        return watch.read()

    return run_round


def interleaved(
    arms: Mapping[str, Callable[[], Sequence[float]]], rounds: int, warmups: int = 1
) -> dict[str, Rounds]:
    """Run arms in turns, A B A B ...

    Args:
        arms: functions by name, which make a few steps and return their seconds.
        rounds: number of rounds.
        warmups: number of earlier rounds that do not count; default 1.

    Returns:
        Seconds by arm, round and step.

    >>> interleaved({"a": lambda: [1.0], "b": lambda: [2.0, 2.5]}, rounds=2)
    {'a': [[1.0], [1.0]], 'b': [[2.0, 2.5], [2.0, 2.5]]}
    """
    by_arm: dict[str, Rounds] = {name: [] for name in arms}
    for i in range(-warmups, rounds):
        for name, arm in arms.items():
            seconds = list(arm())
            if i >= 0:
                by_arm[name].append(seconds)
    return by_arm


class Estimate(NamedTuple):
    """A median with a lower and an upper bound."""

    value: float
    low: float
    high: float


def seconds(rounds: Rounds) -> Estimate:
    """Median of all steps, with the quartiles as bounds.

    >>> seconds([[1.0, 2.0], [3.0, 4.0, 9.0]])
    Estimate(value=3.0, low=2.0, high=4.0)
    """
    steps = [step for of_round in rounds for step in of_round]
    low, value, high = np.quantile(steps, [0.25, 0.5, 0.75])
    return Estimate(float(value), float(low), float(high))


def ratio(of: Rounds, to: Rounds) -> Estimate:
    """Time of one arm relative to another, with a 95% interval.

    The value is the median over rounds of the ratio of the arms' medians: what slows down a round
    affects both. The interval is a bootstrap over rounds; one round has none (NaN).

    Args:
        of: seconds of the arm in the numerator.
        to: seconds of the arm in the denominator, in the same rounds.

    >>> ratio([[2.0], [3.0], [2.2]], [[1.0], [1.5], [1.0]])
    Estimate(value=2.0, low=2.0, high=2.2)
    """
    ratios = np.array([np.median(a) / np.median(b) for a, b in zip(of, to, strict=True)])
    if len(ratios) == 1:
        return Estimate(float(ratios[0]), float("nan"), float("nan"))
    resampled = np.random.default_rng(0).choice(ratios, (_RESAMPLES, len(ratios)))
    low, high = np.quantile(np.median(resampled, axis=1), [0.025, 0.975])
    return Estimate(float(np.median(ratios)), float(low), float(high))
