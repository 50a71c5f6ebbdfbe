"""What tasks store for the report: written with their metrics, and kept when a run resumes."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from sp_bench.results import MetricSpec
from sp_bench.task_runner import read_examples, run_tasks
from sp_bench.tasks import Task, TaskContext


class Stopped(Exception):
    """An interruption, as by a signal."""


def test_examples_survive_an_interruption(tmp_path: Path) -> None:
    stops = [True]

    def make(name: str, value: int) -> Task:
        def run(context: TaskContext) -> dict[str, float]:
            context.examples["shown"] = torch.tensor([value, *(context.rgb or ())])
            if name == "b" and stops.pop():
                raise Stopped
            return {name: 0.5}

        return Task(name, (MetricSpec(name, name),), run)

    backbone: Any = SimpleNamespace(device=torch.device("cpu"))
    sources: Any = SimpleNamespace(of=lambda _: None)
    lines: list[str] = []

    def run(*tasks: Task) -> dict[str, list[int]]:
        run_tasks(tasks, backbone, backbone, sources, 0, tmp_path, lines.append, (3, 2, 1))
        return {name: each["shown"].tolist() for name, each in read_examples(tmp_path).items()}

    assert read_examples(tmp_path) == {}
    with pytest.raises(Stopped):
        run(make("a", 1), make("b", 2))
    assert json.loads((tmp_path / "tasks.json").read_text()).keys() == {"a"}
    stops.append(False)
    # A finished task is not run again, so that its new value does not count.
    assert run(make("a", 7), make("b", 2)) == {"a": [1, 3, 2, 1], "b": [2, 3, 2, 1]}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["task_examples.pt", "tasks.json"]
