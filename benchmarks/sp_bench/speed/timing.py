"""Timing side by side: arms take turns, so a machine that slows down slows down all of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

Rounds = list[list[float]]  # seconds of each step that an arm made, round by round
_RESAMPLES = 2000


class Stopwatch:
    """Seconds between ``start`` and ``stop``, any number of times, until they are read.

    A GPU's are told by its own events: it is never waited for in between, so that what the
    processor does meanwhile is hidden as it is in training.

    Args:
        device: where the work is done.
        clock: of the processor, in seconds.

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
        """Begin."""
        self._mark()

    def stop(self) -> None:
        """End what was begun last."""
        self._mark()

    def read(self) -> list[float]:
        """Seconds of all that was timed since the last reading."""
        marks, self._marks = self._marks, []
        pairs = zip(marks[::2], marks[1::2], strict=True)
        if not self._cuda:
            return [end - begin for begin, end in pairs]
        torch.cuda.synchronize()
        return [begin.elapsed_time(end) / 1000 for begin, end in pairs]

    def _mark(self) -> None:
        if not self._cuda:
            self._marks.append(self._clock())
            return
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        self._marks.append(event)


def repeated(work: Callable[[], object], times: int, watch: Stopwatch) -> Callable[[], list[float]]:
    """An arm out of a function: called ``times`` times in a turn, timed call by call."""

    def turn() -> list[float]:
        for _ in range(times):
            watch.start()
            work()
            watch.stop()
        return watch.read()

    return turn


def interleaved(
    arms: Mapping[str, Callable[[], Sequence[float]]], rounds: int, warmups: int = 1
) -> dict[str, Rounds]:
    """Let arms take turns, A B A B ...

    Args:
        arms: by name; each call makes a few steps and gives the seconds of each.
        rounds: how many turns each arm has.
        warmups: turns before them that do not count.

    >>> interleaved({"a": lambda: [1.0], "b": lambda: [2.0, 2.5]}, rounds=2)
    {'a': [[1.0], [1.0]], 'b': [[2.0, 2.5], [2.0, 2.5]]}
    """
    taken: dict[str, Rounds] = {name: [] for name in arms}
    for turn in range(-warmups, rounds):
        for name, arm in arms.items():
            seconds = list(arm())
            if turn >= 0:
                taken[name].append(seconds)
    return taken


class Estimate(NamedTuple):
    """A median and the bounds around it."""

    value: float
    low: float
    high: float


def seconds(rounds: Rounds) -> Estimate:
    """The median of all steps, with the quartiles.

    >>> seconds([[1.0, 2.0], [3.0, 4.0, 9.0]])
    Estimate(value=3.0, low=2.0, high=4.0)
    """
    low, value, high = np.quantile([each for turn in rounds for each in turn], [0.25, 0.5, 0.75])
    return Estimate(float(value), float(low), float(high))


def ratio(of: Rounds, to: Rounds) -> Estimate:
    """How many times as long one arm takes as another, with a 95% interval.

    The median over rounds of the ratio of the round's medians; what slows a round down is in both.
    The interval is the bootstrap's, over rounds; one round has none.

    >>> ratio([[2.0], [3.0], [2.2]], [[1.0], [1.5], [1.0]])
    Estimate(value=2.0, low=2.0, high=2.2)
    """
    each = np.array([np.median(a) / np.median(b) for a, b in zip(of, to, strict=True)])
    if len(each) == 1:
        return Estimate(float(each[0]), float("nan"), float("nan"))
    drawn = np.random.default_rng(0).choice(each, (_RESAMPLES, len(each)))
    low, high = np.quantile(np.median(drawn, axis=1), [0.025, 0.975])
    return Estimate(float(np.median(each)), float(low), float(high))
