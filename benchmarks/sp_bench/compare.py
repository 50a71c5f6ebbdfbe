"""Comparison of a baseline with SP, seed by seed: by pre-training, or from checkpoints."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sp_bench.channels import resolve_stats
from sp_bench.checkpoints import find_checkpoint
from sp_bench.config import EvalSettings, Settings, claim_output_dir
from sp_bench.data.rgb_display import check_rgb
from sp_bench.environment import machine, versions
from sp_bench.errors import UsageError
from sp_bench.evaluation import load_sources, resolved_pool, run_evaluation
from sp_bench.pretrain import check, short_training_note
from sp_bench.progress import Progress, report_skipped
from sp_bench.report.html_report import write_report
from sp_bench.report.prediction_figure import PairExamples
from sp_bench.results import ARMS, BASELINE, LONGER, SP, Results, Run
from sp_bench.run import EXAMPLES, RUN, load_images, load_or_run, resolved_settings, run_name
from sp_bench.stats import rows
from sp_bench.sweeps.compute_matched import count_matched_epochs
from sp_bench.task_runner import read_correct, read_examples
from sp_bench.tasks import Task, find_tasks
from sp_plugin.validation import did_you_mean

RESULTS, REPORT = "results.json", "report.html"


def compare(settings: Settings, seeds: Sequence[int], out: Path, progress: Progress) -> Results:
    """Make the missing runs of a comparison, and write its results and its report.

    ``out`` has a folder per run, ``results.json`` and ``report.html``. A finished run is read; an
    interrupted run continues after its last complete epoch.

    Args:
        settings: settings of all runs.
        seeds: seeds of the pairs of runs; more can be added later.
        out: a new or empty folder, or one with the same settings.
        progress: display of the progress.

    Raises:
        UsageError, DataError, ConfigError: one line that says what to change.
    """
    tasks = find_tasks(settings.tasks)
    splits, sources = load_images(settings, tasks)
    settings = resolve_stats(settings, sources, tasks, progress.note)
    check_rgb(settings.rgb, settings.stats.channels)
    check(settings, splits.train)
    claim_output_dir(out, settings)
    report_skipped(sources.skipped, progress.note)
    if note := short_training_note(settings, len(splits.train)):
        progress.note(note)
    arms = (*ARMS, LONGER) if settings.longer else ARMS
    runs: list[Run] = []
    longer_epochs = 0  # the same for all seeds
    with progress.over(len(seeds) * len(arms), settings.epochs):
        for seed in seeds:
            for arm in arms:
                of_arm, folder = settings, out / run_name(seed, arm)
                if arm == LONGER and not (folder / RUN).exists():
                    longer_epochs = longer_epochs or count_matched_epochs(settings, splits.train)
                    of_arm = dataclasses.replace(settings, epochs=longer_epochs)
                run = load_or_run(of_arm, arm, seed, sources, tasks, folder, progress)
                runs.append(run)
    pairs = out / run_name(seeds[0], SP) / EXAMPLES
    return _write(
        out,
        runs,
        tasks,
        settings={**resolved_settings(settings), "seeds": list(seeds)},
        data=splits.summary(),
        precision=settings.precision,
        pairs=PairExamples.load(pairs) if pairs.exists() else None,
    )


@dataclass(frozen=True)
class CheckpointSettings:
    """Everything that defines a comparison of checkpoints.

    Attributes:
        evaluation: settings of all evaluations; its checkpoint and seed are not used.
        checkpoints: files or folders of runs by arm, one per pair of runs, in the same order.
    """

    evaluation: EvalSettings
    checkpoints: dict[str, tuple[str, ...]]

    def plain(self) -> dict[str, Any]:
        """The settings as JSON values."""
        values = self.evaluation.plain()
        del values["checkpoint"], values["seed"]
        return {**values, "from": {arm: list(paths) for arm, paths in self.checkpoints.items()}}


def parse_checkpoints(given: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Options ``ARM=CHECKPOINT`` as checkpoints by arm.

    Raises:
        UsageError: an arm is unknown, missing, or has more checkpoints than another.

    >>> parse_checkpoints(["baseline=a", "sp=b", "baseline=c", "sp=d"])
    {'baseline': ('a', 'c'), 'sp': ('b', 'd')}
    """
    known = (*ARMS, LONGER)
    by_arm: dict[str, tuple[str, ...]] = {}
    for item in given:
        arm, sign, path = item.partition("=")
        if not sign or not path:
            raise UsageError(f"from: got {item!r}, takes ARM=CHECKPOINT, such as sp=runs/b")
        if arm not in known:
            raise UsageError(f"from: no arm {arm!r}; {did_you_mean(arm, known)}")
        by_arm[arm] = (*by_arm.get(arm, ()), path)
    for arm in ARMS:
        if arm not in by_arm:
            raise UsageError(f"from: no {arm}=CHECKPOINT; takes one of baseline and one of sp")
    if len({len(paths) for paths in by_arm.values()}) > 1:
        counts = ", ".join(f"{len(paths)} of {arm}" for arm, paths in by_arm.items())
        raise UsageError(f"from: got {counts}; takes as many of each, in pairs")
    return by_arm


def compare_checkpoints(
    settings: CheckpointSettings, out: Path, log: Callable[[str], None]
) -> Results:
    """Evaluate all checkpoints on the same tasks, and write the results and the report.

    ``out`` has an evaluation per checkpoint, ``results.json`` and ``report.html``; an interrupted
    comparison continues.

    Args:
        settings: the evaluation and the checkpoints.
        out: a new or empty folder, or one with the same settings.
        log: called with each line of progress.

    Raises:
        UsageError, DataError, ConfigError: one line that says what to change.
    """
    evaluation = settings.evaluation
    tasks = find_tasks(evaluation.tasks)
    by_arm = {
        arm: [find_checkpoint(Path(path)) for path in paths]
        for arm, paths in settings.checkpoints.items()
    }
    checkpoints = [path for paths in by_arm.values() for path in paths]
    evaluation = dataclasses.replace(evaluation, side=shared_side(evaluation, checkpoints))
    sources = load_sources(evaluation, tasks, log)
    evaluation = resolve_stats(evaluation, sources, tasks, log, checkpoints)
    evaluation = dataclasses.replace(evaluation, pool=shared_pool(evaluation, checkpoints))
    settings = dataclasses.replace(settings, evaluation=evaluation)
    claim_output_dir(out, settings)
    runs = []
    for seed in range(len(by_arm[BASELINE])):
        for arm, paths in by_arm.items():
            path = paths[seed]
            of_arm = dataclasses.replace(evaluation, checkpoint=str(path), seed=seed)
            folder = out / run_name(seed, arm)
            log(f"{folder.name}:")
            metrics = dict(run_evaluation(of_arm, folder, log, sources)["metrics"])
            known, correct = _known_of_run(path.parent), read_correct(folder)
            runs.append(Run(arm, seed, metrics, checkpoint=path.name, correct=correct, **known))
    return _write(
        out,
        runs,
        tasks,
        settings={**settings.plain(), "method": "checkpoints"},
        data=sources.main.summary() if sources.main else {"name": "one source per task"},
        precision="32-true",
        pairs=None,
    )


def shared_side(evaluation: EvalSettings, paths: Sequence[Path]) -> int:
    """The one image size of all checkpoints.

    Raises:
        UsageError: they were trained at several sizes, and none was chosen.
    """
    sides = {path: _with_checkpoint(evaluation, path).resolved_side for path in paths}
    _require_one("side", sides, " px", "one size for all: --side PIXELS")
    return sides[paths[0]]


def shared_pool(evaluation: EvalSettings, paths: Sequence[Path]) -> str:
    """The one pooling of all checkpoints.

    Raises:
        UsageError: they were evaluated with both in their runs, and none was chosen.
    """
    pools = {path: resolved_pool(_with_checkpoint(evaluation, path)) for path in paths}
    _require_one("pool", pools, "", "one pooling for all: --pool mean or cls")
    return pools[paths[0]]


def _with_checkpoint(evaluation: EvalSettings, path: Path) -> EvalSettings:
    return dataclasses.replace(evaluation, checkpoint=str(path))


def _require_one(name: str, values: Mapping[Path, Any], unit: str, takes: str) -> None:
    if len(set(values.values())) > 1:
        each = ", ".join(f"{value}{unit} of {path}" for path, value in values.items())
        raise UsageError(f"{name}: got {each}; takes {takes}")


def _known_of_run(folder: Path) -> dict[str, Any]:
    """Curve, time and compute of a run, if sp-bench made it."""
    path = folder / RUN
    values = json.loads(path.read_text()) if path.is_file() else {}
    names = ("curve", "seconds", "images_seen", "flops")
    return {name: values[name] for name in names if name in values}


def _write(
    out: Path,
    runs: list[Run],
    tasks: Sequence[Task],
    *,
    settings: dict[str, Any],
    data: Mapping[str, Any],
    precision: str,
    pairs: PairExamples | None,
) -> Results:
    """Write ``results.json`` and ``report.html``."""
    metrics = [metric for task in tasks for metric in task.metrics]
    has_longer = any(run.arm == LONGER for run in runs)
    results = Results(
        settings=settings,
        versions=versions(),
        machine=machine(precision),
        data=dict(data),
        runs=runs,
        rows=rows(runs, metrics),
        longer=rows(runs, metrics, LONGER) if has_longer else [],
    )
    results.save(out / RESULTS)
    examples = {arm: read_examples(out / run_name(runs[0].seed, arm)) for arm in ARMS}
    write_report(results, pairs, out / REPORT, examples)
    return results
