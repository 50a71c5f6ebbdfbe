"""Tasks asked one by one, each answer kept as it comes: what was stopped goes on with the next."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from sp_bench.results import write_json
from sp_bench.tasks import Task, TaskContext, run_task

ANSWERS = "tasks.json"


def answered(
    tasks: Sequence[Task],
    subject: Callable[[Task], TaskContext],
    folder: Path,
    tell: Callable[[str], None],
) -> dict[str, dict[str, Any]]:
    """Ask the tasks that were not asked yet.

    Args:
        tasks: in order.
        subject: what a task is asked of, by task.
        folder: of this backbone alone; the answers so far are its ``tasks.json``.
        tell: is told each new answer's time, a line each.

    Returns:
        By task ``figures``, by key, and the ``seconds`` that they took.
    """
    path = folder / ANSWERS
    kept = json.loads(path.read_text()) if path.exists() else {}
    for task in tasks:
        if task.name in kept:
            continue
        start = time.perf_counter()
        figures = run_task(task, subject(task))
        kept[task.name] = {"figures": figures, "seconds": round(time.perf_counter() - start, 1)}
        write_json(path, kept)
        tell(f"{task.name}: {kept[task.name]['seconds']:.0f} s")
    return {task.name: kept[task.name] for task in tasks}


def all_figures(answers: dict[str, dict[str, Any]]) -> dict[str, float]:
    """Every task's figures, by key."""
    return {key: value for each in answers.values() for key, value in each["figures"].items()}
