"""The comparison: each seed pre-trained twice, baseline and SP, and what that changed."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

from sp_bench.data import load_data
from sp_bench.evaluate import evaluate, examples
from sp_bench.machine import machine, versions
from sp_bench.pretrain import FINAL, check, pretrain
from sp_bench.progress import Progress
from sp_bench.report.examples import PairExamples
from sp_bench.report.pages import write_report
from sp_bench.results import ARMS, LONGER, Results, Run, write_json
from sp_bench.settings import Settings, claim
from sp_bench.sources import Sources
from sp_bench.stats import rows
from sp_bench.tasks import Task, find_tasks
from sp_plugin import SPConfig

RESULTS, REPORT = "results.json", "report.html"


def compare(settings: Settings, seeds: Sequence[int], out: Path, progress: Progress) -> Results:
    """Run whatever of a comparison is not done yet, and write its table and its report.

    ``out`` holds a folder for each run, ``results.json`` and ``report.html``. A finished run is
    never made again; one that was stopped goes on from its last whole epoch.

    Args:
        settings: what is measured.
        seeds: each is pre-trained in both arms; more may be added later.
        out: a new or empty folder, or one of the same settings.
        progress: is told what happens.

    Raises:
        UsageError, DataError, ConfigError: one line that says what the user has to mend.
    """
    tasks = find_tasks(settings.tasks)
    splits = load_data(settings.data, limit=settings.limit)
    sources = Sources(splits, settings.task_data)
    for task in tasks:
        sources.of(task)  # what is wrong with its data is said before anything is trained
    check(settings, splits.train)
    claim(out, settings)
    progress.skipped(splits.skipped)
    arms = (*ARMS, LONGER) if settings.longer else ARMS
    done: list[Run] = []
    with progress.over(len(seeds) * len(arms), settings.epochs):
        for seed in seeds:
            for arm in arms:
                own = _longer(settings, done[-2:]) if arm == LONGER else settings
                done.append(_finished(own, arm, seed, sources, tasks, out, progress))
    figures = [figure for task in tasks for figure in task.figures]
    results = Results(
        settings=_resolved(settings, seeds),
        versions=versions(),
        machine=machine(settings.precision),
        data=splits.told(),
        runs=done,
        rows=rows(done, figures),
        longer=rows(done, figures, LONGER) if settings.longer else [],
    )
    results.save(out / RESULTS)
    shown = out / _name(seeds[0], ARMS[1]) / "examples.pt"
    write_report(results, PairExamples.load(shown) if shown.exists() else None, out / REPORT)
    return results


def _finished(
    settings: Settings,
    arm: str,
    seed: int,
    sources: Sources,
    tasks: Sequence[Task],
    out: Path,
    progress: Progress,
) -> Run:
    """The run of this arm and seed: read where it is done, made where it is not."""
    splits = sources.main
    assert splits is not None
    folder = out / _name(seed, arm)
    path = folder / "run.json"
    if path.exists():
        run = Run(**json.loads(path.read_text()))
        progress.finished(run, again=True)
        return run
    folder.mkdir(exist_ok=True)
    progress.started(arm, seed)
    pretrained = pretrain(settings, arm, seed, splits.train, folder, progress.step)
    progress.evaluating()
    method = pretrained.method
    run = Run(
        arm=arm,
        seed=seed,
        figures=evaluate(settings, method, seed, sources, tasks),
        curve=pretrained.record.curve,
        seconds=round(pretrained.record.seconds, 1),
        images_seen=pretrained.images_seen,
        flops=pretrained.flops,
        checkpoint=f"{folder.name}/{FINAL}",
    )
    if pretrained.sp is not None:
        examples(settings, method, pretrained.sp, splits).save(folder / "examples.pt")
    write_json(path, dataclasses.asdict(run))
    progress.finished(run)
    return run


def _longer(settings: Settings, pair: Sequence[Run]) -> Settings:
    """As many epochs more for the baseline as SP's forward operations beside the method's.

    Args:
        settings: of the comparison.
        pair: the baseline's run and SP's, of one seed.
    """
    baseline, sp = pair
    ratio = sp.flops / baseline.flops if baseline.flops else 1.0
    return dataclasses.replace(settings, epochs=max(1, round(settings.epochs * ratio)))


def _name(seed: int, arm: str) -> str:
    return f"seed{seed}-{arm}"


def _resolved(settings: Settings, seeds: Sequence[int]) -> dict[str, object]:
    sp = SPConfig.build(settings.sp).resolve(settings.side).asdict()
    return {**dataclasses.replace(settings, sp=sp).plain(), "seeds": list(seeds)}
