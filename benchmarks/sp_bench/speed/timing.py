"""Times by `torch.utils.benchmark` of arms that take turns, and peak memory.

A machine that slows down slows down all arms of a round, so that their ratio stays. torch's timer
waits for a GPU at the start and at the end of a block, not between its steps.
"""

from __future__ import annotations

import contextlib
import gc
import itertools
import os
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils import benchmark

Rounds = list[list[float]]  # seconds of a step, one or more values per round
Arm = Callable[[], list[float]]
_RESAMPLES = 2000


def timed(work: Callable[[], object], calls: int, parts: int = 1) -> Arm:
    """An arm that calls a function ``calls`` times per round, after two calls that do not count.

    Args:
        work: function to time, with the threads that torch has.
        calls: number of calls, timed as one block.
        parts: number of equal parts of ``work``, of which one is a step; default 1.

    >>> len(timed(lambda: None, 3)())
    1
    """
    threads = torch.get_num_threads()
    timer = benchmark.Timer("work()", globals={"work": work}, num_threads=threads)
    return lambda: [timer.timeit(calls).mean / parts]


def interleaved(arms: Mapping[str, Arm], rounds: int) -> dict[str, Rounds]:
    """Run arms in turns, A B A B ..., and return the seconds by arm and round.

    >>> interleaved({"a": lambda: [1.0], "b": lambda: [2.0, 2.5]}, rounds=2)
    {'a': [[1.0], [1.0]], 'b': [[2.0, 2.5], [2.0, 2.5]]}
    """
    by_arm: dict[str, Rounds] = {name: [] for name in arms}
    for _ in range(rounds):
        for name, arm in arms.items():
            by_arm[name].append(arm())
    return by_arm


class Estimate(NamedTuple):
    """A median with a lower and an upper bound."""

    value: float
    low: float
    high: float


def median_seconds(rounds: Rounds) -> float:
    """Median of all steps.

    >>> median_seconds([[1.0, 2.0], [3.0, 4.0, 9.0]])
    3.0
    """
    return float(np.median(list(itertools.chain(*rounds))))


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


def peak_bytes(work: Callable[[], object], device: torch.device) -> int:
    """Largest number of bytes that ``work`` has allocated at once, without earlier allocations.

    On a GPU from ``torch.cuda.max_memory_allocated``, on a CPU from the profiler's record of
    torch's allocator, which is the same measure. The resident set of the process would include
    memory that Python and the C library retain, and would miss memory that is freed and reused.
    Neither measure includes scratch memory of oneDNN or cuDNN.

    Unreachable cycles are freed first: if an earlier measurement left a Trainer, a collection
    during ``work`` would subtract its tensors.

    >>> held = []
    >>> peak_bytes(lambda: held.append(torch.zeros(1000)), torch.device("cpu"))
    4000
    """
    gc.collect()
    if device.type == "cuda":
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        work()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    with _silent(), profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        work()
    # Summed here, since torch's own total continues from one profile to the next.
    events = record.profiler.kineto_results.events()
    changes = (event.nbytes() for event in events if event.name() == "[memory]")
    return max(itertools.accumulate(changes), default=0)


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Discard stderr, on which the profiler's C++ code reports its start and end."""
    stderr, null = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(null, 2)
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(null)
        os.close(stderr)
