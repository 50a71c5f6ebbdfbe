"""Rules for every task, their discovery and the check of their metrics."""

from __future__ import annotations

import logging
import math
import random
import warnings
from collections import Counter

import numpy as np
import pytest
import torch
from sp_bench.frozen_backbone import UnmeasurableError
from sp_bench.results import MetricSpec
from sp_bench.tasks import Task, all_tasks, find_tasks, run_task

from sp_plugin.validation import ConfigError

TASKS = list(all_tasks().values())
each_task = pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)


@each_task
def test_metrics_ignore_seed_and_global_rng(task, net, splits_for_task, make_context, short_probes):
    splits = splits_for_task(task)
    torch.manual_seed(1)
    one = run_task(task, make_context(net, splits))
    assert all(map(math.isfinite, one.values()))
    torch.manual_seed(2)
    np.random.seed(2)  # noqa: NPY002
    assert run_task(task, make_context(net, splits, seed=7)) == one
    assert list(one) == [metric.key for metric in task.metrics]


@each_task
def test_task_leaves_backbone_and_rng(task, net, splits_for_task, make_context, short_probes):
    net.train()
    net[1].eval()
    modes = [part.training for part in net.modules()]
    state = {key: value.clone() for key, value in net.state_dict().items()}
    drawn = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()  # noqa: NPY002
    task.run(make_context(net, splits_for_task(task)))
    assert torch.equal(torch.get_rng_state(), drawn[0])
    assert random.getstate() == drawn[1]
    assert (np.random.get_state()[1] == drawn[2]).all()  # noqa: NPY002
    assert [part.training for part in net.modules()] == modes
    assert all(torch.equal(state[key], value) for key, value in net.state_dict().items())
    assert all(parameter.grad is None for parameter in net.parameters())


def test_short_fits_give_no_warnings(net, splits_for_task, make_context):
    from sklearn.exceptions import ConvergenceWarning

    def fit(context):
        warnings.warn("lbfgs failed to converge", ConvergenceWarning, stacklevel=1)
        return {"x": 1.0}

    task = Task("short", (MetricSpec("x", "x"),), fit)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert run_task(task, make_context(net, splits_for_task(TASKS[0]))) == {"x": 1.0}


def test_names_keys_and_labels_are_unique():
    assert len({task.name for task in TASKS}) == len(TASKS)
    metrics = [metric for task in TASKS for metric in task.metrics]
    for named in ([m.key for m in metrics], [m.label for m in metrics]):
        assert [name for name, times in Counter(named).items() if times > 1] == []


def test_tasks_are_found_in_a_fixed_order():
    assert [name for name in all_tasks() if name in ("pair", "linear", "knn")] == [
        "knn",
        "linear",
        "pair",
    ]


def test_only_files_with_a_task_are_found(tmp_path, monkeypatch):
    import sp_bench.tasks as package

    (tmp_path / "a_new_task.py").write_text(
        "from sp_bench.tasks import Task\nTASK = Task('new', (), lambda context: {})\n"
    )
    (tmp_path / "a_part.py").write_text("HALF = 0.5\n")
    monkeypatch.setattr(package, "__path__", [*package.__path__, str(tmp_path)])
    package._discover.cache_clear()
    try:
        assert list(all_tasks()) == ["new", *(task.name for task in TASKS)]
    finally:
        package._discover.cache_clear()


def test_selected_tasks_keep_order_once():
    assert [task.name for task in find_tasks(["pair", "knn", "pair"])] == ["pair", "knn"]


def test_unknown_task_suggests_nearest():
    with pytest.raises(ConfigError, match=r"^tasks: there is no 'kn'; did you mean 'knn'\?$"):
        find_tasks(["linear", "kn"])


def task_returning(metrics):
    return Task(
        "odd", (MetricSpec("one", "one"), MetricSpec("two", "two")), lambda context: metrics
    )


def test_metrics_are_ordered_plain_floats(net, tints, make_context):
    found = run_task(task_returning({"two": np.float32(2), "one": 1}), make_context(net, tints))
    assert list(found.items()) == [("one", 1.0), ("two", 2.0)]
    assert [type(value) for value in found.values()] == [float, float]


@pytest.mark.parametrize("given", [{"one": 1.0}, {"one": 1.0, "two": 2.0, "three": 3.0}])
def test_wrong_metric_names_are_an_error(given, net, tints, make_context):
    with pytest.raises(ValueError, match=r"^task odd: .*(two|three)$"):
        run_task(task_returning(given), make_context(net, tints))


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_nonfinite_metric_is_an_error(value, net, tints, make_context):
    with pytest.raises(ValueError, match="task odd: two is"):
        run_task(task_returning({"one": 1.0, "two": value}), make_context(net, tints))


def test_unmeasurable_is_nan_and_logged(net, tints, make_context, caplog):
    def run(context):
        raise UnmeasurableError("data: no depth")

    task = Task("odd", (MetricSpec("one", "one"), MetricSpec("two", "two")), run)
    with caplog.at_level(logging.WARNING, logger="sp_bench"):
        found = run_task(task, make_context(net, tints, seed=3))
    assert list(found) == ["one", "two"]
    assert all(math.isnan(value) for value in found.values())
    assert "task odd, seed 3: not measured: data: no depth" in caplog.text


def test_diverged_backbone_gives_nan(net, splits_for_task, make_context):
    net[0].weight.data.fill_(math.nan)
    for task in TASKS:
        assert all(
            math.isnan(value)
            for value in run_task(task, make_context(net, splits_for_task(task))).values()
        )


def test_task_uses_private_generators(net, tints, make_context):
    def run(context):
        return {"one": float(torch.rand(())), "two": random.random() + float(np.random.rand())}  # noqa: NPY002

    task = Task("odd", (MetricSpec("one", "one"), MetricSpec("two", "two")), run)
    before = torch.get_rng_state()
    assert run_task(task, make_context(net, tints)) == run_task(
        task, make_context(net, tints, seed=1)
    )
    assert torch.equal(torch.get_rng_state(), before)
