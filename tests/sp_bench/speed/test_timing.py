"""Arms that take turns, and their times, on a clock that the tests control."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from sp_bench.speed.timing import Estimate, Rounds, Stopwatch, interleaved, ratio, repeated, seconds

CPU = torch.device("cpu")


class FakeClock:
    """A clock that advances with work, by a growing amount if ``slows`` is above 1."""

    def __init__(self, slows: float = 1.0) -> None:
        self.now, self.pace, self.slows = 0.0, 1.0, slows
        self.order: list[str] = []

    def work(self, name: str, cost: float) -> Callable[[], None]:
        def done() -> None:
            self.order.append(name)
            self.now += cost * self.pace
            self.pace *= self.slows

        return done

    def arm(self, name: str, cost: float, times: int = 1) -> Callable[[], list[float]]:
        return repeated(self.work(name, cost), times, Stopwatch(CPU, lambda: self.now))


def test_arms_alternate_after_a_warmup_round() -> None:
    clock = FakeClock()
    taken = interleaved({"a": clock.arm("a", 1.0), "b": clock.arm("b", 3.0)}, rounds=3)
    assert clock.order == ["a", "b"] * 4
    assert taken == {"a": [[1.0]] * 3, "b": [[3.0]] * 3}


def test_stopwatch_excludes_pauses() -> None:
    clock = FakeClock()
    watch = Stopwatch(CPU, lambda: clock.now)
    for cost in (1.0, 2.0):
        watch.start()
        clock.work("inside", cost)()
        watch.stop()
        clock.work("outside", 100.0)()
    assert watch.read() == [1.0, 2.0]
    assert watch.read() == []


def test_ratio_ignores_a_slowing_machine() -> None:
    clock = FakeClock(slows=1.03)
    arms = {"a": clock.arm("a", 1.0), "b": clock.arm("b", 1.5)}
    taken = interleaved(arms, rounds=40)
    assert seconds(taken["a"]).high > 2 * seconds(taken["a"]).low
    found = ratio(taken["b"], taken["a"])
    assert found == pytest.approx(Estimate(*[1.5 * 1.03] * 3))


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
    assert seconds(measured).value == 2.0


def test_one_round_has_no_interval() -> None:
    found = ratio([[3.0]], [[2.0]])
    assert found.value == 1.5 and math.isnan(found.low) and math.isnan(found.high)
