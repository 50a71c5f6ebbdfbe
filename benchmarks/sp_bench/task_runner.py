"""Run tasks one by one and store the metrics of each, so that a stopped evaluation resumes."""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sp_bench.frozen_backbone import FrozenBackbone
from sp_bench.results import write_json, write_whole
from sp_bench.task_data import Sources
from sp_bench.tasks import Task, TaskContext, run_task

TASKS_FILE, EXAMPLES_FILE = "tasks.json", "task_examples.pt"
_LINE_EVERY = 60.0  # seconds between lines about a task that takes long


def run_tasks(
    tasks: Sequence[Task],
    backbone: FrozenBackbone,
    untrained: FrozenBackbone,
    sources: Sources,
    seed: int,
    folder: Path,
    log: Callable[[str], None],
    rgb: tuple[int, ...] | None = None,
) -> dict[str, dict[str, Any]]:
    """Run the tasks that have no stored metrics, or those of an earlier definition.

    Args:
        tasks: tasks in order.
        backbone: pre-trained backbone.
        untrained: the same architecture with random weights, as a control.
        sources: images of the tasks.
        seed: seed of the pre-training.
        folder: folder of one backbone; its ``tasks.json`` stores the metrics, and
            ``task_examples.pt`` what the report draws.
        log: function that gets a line when a task starts, one each minute while it encodes images,
            and one with its seconds.
        rgb: channels that examples show; None: see `RGBDisplay`.

    Returns:
        ``metrics`` by key, and the ``seconds`` that they took, by task.
    """
    path = folder / TASKS_FILE
    stored = json.loads(path.read_text()) if path.exists() else {}
    for position, task in enumerate(tasks, 1):
        if task.name in stored:
            if stored[task.name]["metrics"].keys() == {metric.key for metric in task.metrics}:
                continue
            log(f"{task.name}: the stored metrics are of another version of this task")
        log(f"{task.name}: task {position} of {len(tasks)} runs")
        start = time.perf_counter()
        backbone.on_encoded = untrained.on_encoded = _Encoded(task.name, log)
        context = TaskContext(backbone, untrained, sources.of(task), seed, rgb=rgb)
        metrics = run_task(task, context)
        seconds = round(time.perf_counter() - start, 1)
        stored[task.name] = {"metrics": metrics, "seconds": seconds, "correct": context.correct}
        if context.examples:  # before the metrics, so that a finished task has both
            examples = {**read_examples(folder), task.name: context.examples}
            write_whole(folder / EXAMPLES_FILE, functools.partial(torch.save, examples))
        write_json(path, stored)
        log(f"{task.name}: {seconds:.0f} s")
    return {task.name: stored[task.name] for task in tasks}


class _Encoded:
    """Counts the images that a task has encoded, and logs their number each minute."""

    def __init__(self, task: str, log: Callable[[str], None]) -> None:
        self._task, self._log = task, log
        self._images = 0
        self._start = self._last_line = time.monotonic()

    def __call__(self, images: int) -> None:
        self._images += images
        now = time.monotonic()
        if now - self._last_line >= _LINE_EVERY:
            self._last_line = now
            seconds = now - self._start
            self._log(f"{self._task}: {self._images:,} images encoded in {seconds:.0f} s")


def read_correct(folder: Path) -> dict[str, str]:
    """Which test images were classified correctly, by metric, as `run_tasks` stored it."""
    path = folder / TASKS_FILE
    stored = json.loads(path.read_text()) if path.exists() else {}
    return {k: v for result in stored.values() for k, v in result.get("correct", {}).items()}


def read_examples(folder: Path) -> dict[str, dict[str, Tensor]]:
    """Tensors that the report draws, by task and name; empty for runs that stored none."""
    path = folder / EXAMPLES_FILE
    if not path.exists():
        return {}
    return dict(torch.load(path, weights_only=True, map_location="cpu"))


def merge_metrics(by_task: dict[str, dict[str, Any]]) -> dict[str, float]:
    """Metrics of all tasks in one dict, by key."""
    return {k: v for result in by_task.values() for k, v in result["metrics"].items()}
