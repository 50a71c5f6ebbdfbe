"""What a comparison shows while it runs: a bar with the time left, and a line for each run."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

from rich import progress as bars
from rich.console import Console

from sp_bench.results import Run

_NAMED = 5  # unreadable images; results.json has them all


class Progress:
    """One bar over all epochs of all runs; where there is no terminal, lines only."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.bar = bars.Progress(
            bars.TextColumn("{task.description}"),
            bars.BarColumn(),
            bars.TaskProgressColumn(),
            bars.TimeElapsedColumn(),
            bars.TextColumn("left"),
            bars.TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
            speed_estimate_period=600,
        )
        self._task = self.bar.add_task("", total=None)
        self._label = ""
        self._before = 0.0
        self._epochs = 1

    @contextlib.contextmanager
    def over(self, runs: int, epochs: int) -> Iterator[None]:
        """Show the bar for a block of ``runs`` runs of ``epochs`` epochs."""
        self._epochs = epochs
        self.bar.update(self._task, total=runs * epochs)
        with self.bar:
            yield

    def skipped(self, names: Sequence[str]) -> None:
        """Images that could not be read are left out; say which."""
        if names:
            more = ", ..." if len(names) > _NAMED else ""
            self.console.print(
                f"left out, unreadable: {len(names)} ({', '.join(names[:_NAMED])}{more})",
                highlight=False,
                soft_wrap=True,
            )

    def started(self, arm: str, seed: int) -> None:
        """A run begins, or goes on."""
        self._label = f"seed {seed}, {arm}"
        self.bar.update(self._task, description=self._label)

    def step(self, epoch: int, share: float) -> None:
        """A step is done: ``share`` of this epoch, counted from 0."""
        self.bar.update(
            self._task,
            completed=self._before + epoch + share,
            description=f"{self._label}: epoch {epoch + 1}/{self._epochs}",
        )

    def evaluating(self) -> None:
        """Pre-training is done, the tasks are next."""
        self.bar.update(self._task, description=f"{self._label}: evaluating")

    def answered(self, told: str) -> None:
        """A task is done: its name and its time."""
        self.bar.update(self._task, description=f"{self._label}: evaluating ({told})")

    def finished(self, run: Run, again: bool = False) -> None:
        """A run is done; ``again`` where it had been before."""
        self._before += self._epochs
        self.bar.update(self._task, completed=self._before)
        made = "done before" if again else f"{run.seconds:.0f} s"
        loss = f"loss {run.curve[-1]['loss']:.3f}" if run.curve else ""
        self.console.print(
            f"seed {run.seed}, {run.arm}: {made}, {loss}", highlight=False, soft_wrap=True
        )
