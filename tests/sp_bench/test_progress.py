"""The bar of a comparison: an end in sight, whatever the evaluation takes."""

from __future__ import annotations

import io

import pytest
from rich.console import Console
from sp_bench import progress as module
from sp_bench.progress import Progress
from sp_bench.results import Run


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds that a test can set."""
    now = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    return now


def share(progress: Progress) -> float:
    task = progress.bar.tasks[0]
    return task.completed / task.total


def train(progress: Progress, clock: list[float], first: int = 0) -> None:
    progress.started("sp", 0)
    for epoch in range(first, 4):
        clock[0] += 10
        progress.step(epoch, 1.0)
    progress.evaluating()


@pytest.mark.parametrize("first", [0, 3], ids=["whole", "resumed"])
def test_bar_counts_evaluation_by_its_time(clock, first):
    """After a run whose evaluation took as long as three epochs, another is expected to."""
    progress = Progress(Console(quiet=True))
    with progress.over(2, 4):
        train(progress, clock, first)
        clock[0] += 30
        progress.finished(Run("sp", 0))
        assert share(progress) == pytest.approx(1 / 2)
        train(progress, clock)
        assert share(progress) == pytest.approx((7 + 4) / 14)
        progress.finished(Run("sp", 1))
        assert share(progress) == 1


def test_finished_runs_move_the_bar():
    progress = Progress(Console(quiet=True))
    with progress.over(4, 3):
        progress.finished(Run("baseline", 0), again=True)
        assert share(progress) == pytest.approx(1 / 4)


def test_no_bar_in_a_file():
    file = io.StringIO()
    progress = Progress(Console(file=file))
    with progress.over(1, 4):
        progress.started("sp", 0)
        progress.step(0, 0.5)
        progress.finished(Run("sp", 0, curve=[{"loss": 1.0}], seconds=7))
    assert file.getvalue() == "seed 0, sp: 7 s, loss 1.000\n"
