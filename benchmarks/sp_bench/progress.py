"""Progress of a comparison: a bar with the remaining time, and a line for each run."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence

from rich import progress as bars
from rich.console import Console

from sp_bench.results import Run

_EVALUATION = 0.5  # time of the first evaluation, as a fraction of the training
_MAX_NAMES = 5  # of unreadable images; JSON has them all


def report_skipped(names: Sequence[str], log: Callable[[str], None]) -> None:
    """One line with the unreadable images that are left out; none if there are none.

    >>> report_skipped(["a.jpg", "b.jpg"], print)
    left out, unreadable: 2 (a.jpg, b.jpg)
    """
    if names:
        more = ", ..." if len(names) > _MAX_NAMES else ""
        log(f"left out, unreadable: {len(names)} ({', '.join(names[:_MAX_NAMES])}{more})")


class Progress:
    """One bar over all epochs of all runs; only lines if the console is no terminal."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.bar = bars.Progress(
            bars.TextColumn("{task.description}"),
            bars.BarColumn(),
            bars.TaskProgressColumn(),
            bars.TimeElapsedColumn(),
            bars.TextColumn("gone,"),
            bars.TimeRemainingColumn(),
            bars.TextColumn("left"),
            console=console,
            transient=True,
            disable=not console.is_terminal,
            speed_estimate_period=600,
        )
        self._task = self.bar.add_task("", total=None)
        self._label = ""
        self._runs, self._finished_runs = 1, 0
        self._epochs = 1
        self._evaluation = 0.0  # time of an evaluation in epochs
        self._first_epoch = 0
        self._start = self._training_end = 0.0

    @contextlib.contextmanager
    def over(self, runs: int, epochs: int) -> Iterator[None]:
        """Show the bar during a block of ``runs`` runs of ``epochs`` epochs each."""
        self._runs, self._epochs = runs, epochs
        self._evaluation = _EVALUATION * epochs
        self._move()
        with self.bar:
            yield

    def started(self, arm: str, seed: int) -> None:
        """A run starts or resumes."""
        self._label = f"seed {seed}, {arm}"
        self._first_epoch, self._start = self._epochs, time.monotonic()
        self.bar.update(self._task, description=self._label)

    def step(self, epoch: int, fraction: float) -> None:
        """A step of training is done: ``fraction`` of ``epoch``, counted from 0."""
        self._first_epoch = min(self._first_epoch, epoch)
        self._move(epoch + fraction, f"{self._label}: epoch {epoch + 1}/{self._epochs}")

    def evaluating(self) -> None:
        """Pre-training is done, the tasks follow."""
        self._training_end = time.monotonic()
        self._move(self._epochs, f"{self._label}: evaluating")

    def task_finished(self, line: str) -> None:
        """A task is done: ``line`` has its name and its seconds."""
        self.bar.update(self._task, description=f"{self._label}: evaluating ({line})")

    def finished(self, run: Run, again: bool = False) -> None:
        """A run is done; ``again``: it was read from disk."""
        self._finished_runs += 1
        trained = self._epochs - self._first_epoch  # since a run can resume
        if not again and trained > 0:
            # The bar is in epochs, so an evaluation counts by the time that this one took.
            seconds = (self._training_end - self._start) / trained
            self._evaluation = (time.monotonic() - self._training_end) / max(seconds, 1e-3)
        self._move()
        duration = "done before" if again else f"{run.seconds:.0f} s"
        loss = f"loss {run.curve[-1]['loss']:.3f}" if run.curve else ""
        self._print(f"seed {run.seed}, {run.arm}: {duration}, {loss}")

    def _move(self, epochs: float = 0.0, description: str | None = None) -> None:
        """Move the bar to ``epochs`` of the run that follows the finished ones."""
        each = self._epochs + self._evaluation
        done = self._finished_runs * each + epochs
        total = self._runs * each
        self.bar.update(self._task, total=total, completed=done, description=description)

    def note(self, line: str) -> None:
        """Print a line."""
        self._print(line)

    def _print(self, line: str) -> None:
        self.console.print(line, highlight=False, soft_wrap=True)
