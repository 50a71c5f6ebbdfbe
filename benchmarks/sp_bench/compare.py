"""The comparison: each seed pre-trained twice, baseline and SP, and what that changed."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from sp_bench.config import Settings, claim_output_dir
from sp_bench.environment import machine, versions
from sp_bench.pretrain import check
from sp_bench.progress import Progress
from sp_bench.report.html_report import write_report
from sp_bench.report.prediction_figure import PairExamples
from sp_bench.results import ARMS, LONGER, Results, Run
from sp_bench.run import finished, images_for, resolved, run_name
from sp_bench.stats import rows
from sp_bench.sweeps.compute_matched import longer
from sp_bench.tasks import find_tasks

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
    splits, sources = images_for(settings, tasks)
    check(settings, splits.train)
    claim_output_dir(out, settings)
    progress.skipped(splits.skipped)
    arms = (*ARMS, LONGER) if settings.longer else ARMS
    done: list[Run] = []
    with progress.over(len(seeds) * len(arms), settings.epochs):
        for seed in seeds:
            for arm in arms:
                own = _longer(settings, done[-2:]) if arm == LONGER else settings
                folder = out / run_name(seed, arm)
                done.append(finished(own, arm, seed, sources, tasks, folder, progress))
    figures = [figure for task in tasks for figure in task.metrics]
    results = Results(
        settings=_resolved(settings, seeds),
        versions=versions(),
        machine=machine(settings.precision),
        data=splits.summary(),
        runs=done,
        rows=rows(done, figures),
        longer=rows(done, figures, LONGER) if settings.longer else [],
    )
    results.save(out / RESULTS)
    shown = out / run_name(seeds[0], ARMS[1]) / "examples.pt"
    write_report(results, PairExamples.load(shown) if shown.exists() else None, out / REPORT)
    return results


def _longer(settings: Settings, pair: Sequence[Run]) -> Settings:
    """As many epochs more for the baseline as SP's forward operations beside the method's.

    Args:
        settings: of the comparison.
        pair: the baseline's run and SP's, of one seed.
    """
    baseline, sp = pair
    return dataclasses.replace(settings, epochs=longer(settings.epochs, baseline.flops, sp.flops))


def _resolved(settings: Settings, seeds: Sequence[int]) -> dict[str, object]:
    return {**resolved(settings), "seeds": list(seeds)}
