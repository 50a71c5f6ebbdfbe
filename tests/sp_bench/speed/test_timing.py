"""Arms that take turns, their times, and peak memory."""

from __future__ import annotations

import gc
import math
import time

import pytest
import torch
from sp_bench.speed.timing import (
    Arm,
    Rounds,
    interleaved,
    median_seconds,
    peak_bytes,
    ratio,
    timed,
)


def test_arms_alternate() -> None:
    order: list[str] = []

    def arm(name: str, cost: float) -> Arm:
        return lambda: order.append(name) or [cost]  # type: ignore[func-returns-value]

    taken = interleaved({"a": arm("a", 1.0), "b": arm("b", 3.0)}, rounds=3)
    assert order == ["a", "b"] * 3
    assert taken == {"a": [[1.0]] * 3, "b": [[3.0]] * 3}


def test_time_is_that_of_one_part_of_a_call() -> None:
    calls: list[int] = []

    def work() -> None:
        calls.append(torch.get_num_threads())
        time.sleep(0.01)

    (seconds,) = timed(work, calls=3, parts=4)()
    assert calls == [torch.get_num_threads()] * 5  # two that do not count
    assert 0.01 / 4 <= seconds < 0.1 / 4


def test_interval_narrows_with_more_rounds() -> None:
    noise = torch.randn(100, generator=torch.Generator().manual_seed(0)).mul(0.1).exp()
    base: Rounds = [[1.0]] * len(noise)
    measured: Rounds = [[1.25 * float(each)] for each in noise]
    few, many = ratio(measured[:10], base[:10]), ratio(measured, base)
    for found in (few, many):
        assert found.low < 1.25 < found.high and found.low < found.value < found.high
    assert many.high - many.low < few.high - few.low


@pytest.mark.parametrize("slow", [[2.0, 2.0, 90.0], [90.0]], ids=["a step", "a round"])
def test_ratio_is_robust_to_slow_outliers(slow: list[float]) -> None:
    measured: Rounds = [slow] + [[2.0]] * 8
    assert ratio(measured, [[1.0]] * 9).value == 2.0
    assert median_seconds(measured) == 2.0


def test_one_round_has_no_interval() -> None:
    found = ratio([[3.0]], [[2.0]])
    assert found.value == 1.5 and math.isnan(found.low) and math.isnan(found.high)


def test_peak_memory_counts_live_tensors() -> None:
    def work() -> None:
        first = torch.zeros(1000)
        del first
        second, third = torch.zeros(500), torch.zeros(600)
        del second, third

    kept = torch.zeros(10_000)
    for _ in range(2):  # what another measurement saw does not count
        assert peak_bytes(work, torch.device("cpu")) == 4 * 1100
    assert len(kept) == 10_000


def test_peak_memory_without_old_cycles() -> None:
    def leave_a_cycle() -> None:
        cycle: list[object] = [torch.zeros(50_000)]
        cycle.append(cycle)

    def work() -> None:
        gc.collect()
        torch.zeros(1000)

    peak_bytes(leave_a_cycle, torch.device("cpu"))
    assert peak_bytes(work, torch.device("cpu")) == 4000
