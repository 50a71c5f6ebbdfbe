"""One run: one arm of one seed, pre-trained and asked all tasks; made once, and read after that."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sp_bench.config import Settings
from sp_bench.data import Splits, load_data
from sp_bench.errors import UsageError
from sp_bench.evaluation import evaluate_method
from sp_bench.pair_examples import predict_examples
from sp_bench.pretrain import FINAL, pretrain
from sp_bench.progress import Progress
from sp_bench.results import Run, write_json
from sp_bench.task_data import Sources
from sp_bench.tasks import Task
from sp_plugin import SPConfig

RUN, EXAMPLES = "run.json", "examples.pt"


def run_name(seed: int, arm: str) -> str:
    """The folder of a run within its comparison."""
    return f"seed{seed}-{arm}"


def images_for(settings: Settings, tasks: Sequence[Task]) -> tuple[Splits, Sources]:
    """The images to pre-train on, and those of all tasks.

    Raises:
        UsageError, DataError: one line that says what is wrong with them.
    """
    if settings.validation and settings.task_data:
        name, source = next(iter(settings.task_data.items()))
        raise UsageError(
            f"validation: {name}={source} would be asked about its test images; takes tasks on "
            "--data alone"
        )
    splits = load_data(settings.data, limit=settings.limit, validation=settings.validation)
    sources = Sources(splits, settings.task_data)
    for task in tasks:
        sources.of(task)  # what is wrong with its data is said before anything is trained
    return splits, sources


def finished(
    settings: Settings,
    arm: str,
    seed: int,
    sources: Sources,
    tasks: Sequence[Task],
    folder: Path,
    progress: Progress,
) -> Run:
    """The run of this arm and seed: read where it is done, made where it is not.

    Args:
        settings: what is measured.
        arm: ``baseline`` and ``longer`` are trained without SP, any other with it.
        seed: of weights, order, augmentations and SP.
        sources: the images; the main ones are pre-trained on.
        tasks: what is asked.
        folder: of this run alone.
        progress: is told what happens.
    """
    splits = sources.main
    assert splits is not None
    path = folder / RUN
    if path.exists():
        run = Run(**json.loads(path.read_text()))
        progress.finished(run, again=True)
        return run
    folder.mkdir(exist_ok=True)
    progress.started(arm, seed)
    pretrained = pretrain(settings, arm, seed, splits.train, folder, progress.step)
    method = pretrained.method
    progress.evaluating()
    figures = evaluate_method(
        settings, method, seed, sources, tasks, folder, progress.task_finished
    )
    run = Run(
        arm=arm,
        seed=seed,
        figures=figures,
        curve=pretrained.record.curve,
        seconds=round(pretrained.record.seconds, 1),
        images_seen=pretrained.images_seen,
        flops=pretrained.flops,
        checkpoint=f"{folder.name}/{FINAL}",
    )
    if pretrained.sp is not None and settings.pretext == "sp":
        predict_examples(settings, method, pretrained.sp, splits).save(folder / EXAMPLES)
    write_json(path, dataclasses.asdict(run))
    progress.finished(run)
    return run


def resolved(settings: Settings) -> dict[str, Any]:
    """Settings as they stand in JSON, with SP's nothing left open."""
    sp = SPConfig.from_dict(settings.sp).resolve(settings.side).asdict()
    return dataclasses.replace(settings, sp=sp).plain()
