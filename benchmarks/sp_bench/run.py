"""One run: one arm of one seed, pre-trained and evaluated on all tasks, or read if finished."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sp_bench.config import Settings
from sp_bench.data import Splits
from sp_bench.errors import UsageError
from sp_bench.method_evaluation import evaluate_method, random_backbone
from sp_bench.pair_examples import predict_examples
from sp_bench.pretrain import FINAL, pretrain
from sp_bench.progress import Progress
from sp_bench.report.mpl_style import save_figure
from sp_bench.report.prediction_figure import PairExamples, draw_examples
from sp_bench.results import Run, write_json
from sp_bench.run_lock import locked
from sp_bench.task_data import Sources, load_main
from sp_bench.task_runner import read_correct
from sp_bench.tasks import Task
from sp_plugin import SPConfig

RUN, EXAMPLES = "run.json", "examples.pt"


def run_name(seed: int, arm: str) -> str:
    """Name of a run's folder within its comparison."""
    return f"seed{seed}-{arm}"


def load_images(settings: Settings, tasks: Sequence[Task]) -> tuple[Splits, Sources]:
    """The images of pre-training, and those of all tasks.

    Raises:
        UsageError, DataError: one line that says what is wrong with them.
    """
    if settings.validation and settings.task_data:
        name, source = next(iter(settings.task_data.items()))
        raise UsageError(
            f"validation: {name}={source} would be evaluated on its test images; takes tasks on "
            "--data alone"
        )
    splits = load_main(
        settings.data,
        tasks,
        settings.task_data,
        limit=settings.limit,
        validation=settings.validation,
    )
    sources = Sources(splits, settings.task_data)
    for task in tasks:
        sources.of(task)  # an error in a task's data comes before any training
    return splits, sources


def load_or_run(
    settings: Settings,
    arm: str,
    seed: int,
    sources: Sources,
    tasks: Sequence[Task],
    folder: Path,
    progress: Progress,
) -> Run:
    """Read the run of an arm and a seed if it is finished, else pre-train and evaluate it.

    Args:
        settings: settings of the comparison.
        arm: name of the arm; ``baseline`` and ``longer`` train without SP, any other with it.
        seed: seed of weights, order, augmentations and SP.
        sources: images of the tasks; the main ones are those of pre-training.
        tasks: tasks of the evaluation.
        folder: folder of this run alone.
        progress: display of the progress.

    Raises:
        UsageError: another process is making the run.
    """
    splits = sources.main
    assert splits is not None
    path = folder / RUN
    if path.exists():
        run = Run(**json.loads(path.read_text()))
        progress.finished(run, again=True)
        return run
    folder.mkdir(exist_ok=True)
    with locked(folder):
        progress.started(arm, seed)
        pretrained = pretrain(settings, arm, seed, splits.train, folder, progress.step)
        method = pretrained.method
        progress.evaluating()
        untrained = random_backbone(settings, seed)
        metrics = evaluate_method(
            settings, method, seed, sources, tasks, folder, progress.task_finished, untrained
        )
        run = Run(
            arm=arm,
            seed=seed,
            metrics=metrics,
            curve=pretrained.record.curve,
            seconds=round(pretrained.record.seconds, 1),
            images_seen=pretrained.images_seen,
            flops=pretrained.flops,
            checkpoint=f"{folder.name}/{FINAL}",
            correct=read_correct(folder),
        )
        if pretrained.sp is not None and settings.pretext == "sp":
            predict_examples(settings, method, pretrained.sp, splits).save(folder / EXAMPLES)
        write_json(path, dataclasses.asdict(run))
    progress.finished(run)
    return run


def show_answers(folder: Path, out: Path) -> None:
    """Draw what SP's head says of held-out pairs before and after training, as a PNG.

    Args:
        folder: of a comparison, whose first run with SP is drawn, or of one run.
        out: PNG file; its folder is made if it is missing.

    Raises:
        UsageError: no run of the folder has examples, as no run with SP is finished.
    """
    files = [folder / EXAMPLES, *sorted(folder.glob(f"seed*/{EXAMPLES}"))]
    found = next((file for file in files if file.exists()), None)
    if found is None:
        raise UsageError(f"run: {folder} has no {EXAMPLES}; takes a finished comparison with SP")
    save_figure(draw_examples(PairExamples.load(found)), out)


def resolved_settings(settings: Settings) -> dict[str, Any]:
    """The settings as JSON values, with all open settings of SP filled in."""
    sp = SPConfig.from_dict(settings.sp).resolve(settings.side).asdict()
    return dataclasses.replace(settings, sp=sp).plain()
