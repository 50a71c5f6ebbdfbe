"""One job of a suite: one run, from a hydra config, independent of all other jobs."""

from __future__ import annotations

import dataclasses
import datetime
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from sp_bench.channels import resolve_stats
from sp_bench.config import (
    Settings,
    check_seed,
    claim_output_dir,
    default_backbone,
    different_settings,
    fast_precision,
    settings_of_run,
)
from sp_bench.data import Splits
from sp_bench.environment import machine, versions
from sp_bench.errors import UsageError
from sp_bench.pretrain import FINAL, check
from sp_bench.progress import Progress, report_skipped
from sp_bench.results import BASELINE, LONGER, Run, write_json
from sp_bench.run import RUN, load_images, load_or_run
from sp_bench.sweeps.compute_matched import count_matched_epochs
from sp_bench.sweeps.paths import run_folder
from sp_bench.task_data import Sources, absolute
from sp_bench.tasks import Task, find_tasks
from sp_plugin import SPConfig
from sp_plugin.validation import did_you_mean

ORIGIN = "origin.json"
_OF_THE_JOB = (
    *("arm", "seed", "out", "prediction", "threads", "data_root", "host", "dry_run"),
    *("suite_name", "configs_dir", "lookup", "checkpoints"),
)
_last_images: dict[str, tuple[Splits, Sources]] = {}
_OF_EVALUATION = {"tasks", "task_data"}
_OF_THE_RUN = tuple(f.name for f in dataclasses.fields(Settings) if f.name != "longer")


def run_job(config: dict[str, Any]) -> Run:
    """Pre-train and evaluate one arm of one seed, or read the run if it is finished.

    The folder of the run, ``OUT/METHOD/seedS-ARM``, also gets ``origin.json``: settings, data,
    versions, machine, date, and the prediction that was written before the run.

    Raises:
        UsageError, DataError, ConfigError: one line that says what to change.
    """
    settings, arm, seed = job_settings(config), str(config["arm"]), check_seed(int(config["seed"]))
    if config.get("threads"):
        torch.set_num_threads(int(config["threads"]))
    folder = run_folder(config)
    tasks = find_tasks(settings.tasks)
    splits, sources = _load_images(settings, tasks)
    settings = resolve_stats(settings, sources, tasks, print)
    check(settings, splits.train)
    claim_output_dir(folder, settings)
    progress = Progress(Console())
    if not (folder / RUN).exists():
        report_skipped(sources.skipped, progress.note)
        if config.get("checkpoints"):
            source = run_folder({**config, "out": config["checkpoints"]})
            epochs = _take_checkpoint(source, folder, settings)
            settings = dataclasses.replace(settings, epochs=epochs)
        elif arm == LONGER:
            epochs = count_matched_epochs(settings, splits.train)
            settings = dataclasses.replace(settings, epochs=epochs)
        origin = {
            "suite": config.get("suite_name"),
            "settings": settings.plain(),
            "prediction": str(config.get("prediction") or ""),
            "data": splits.summary(),
            "versions": versions(),
            "machine": machine(settings.precision),
            "date": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
        }
        write_json(folder / ORIGIN, origin)
    return load_or_run(settings, arm, seed, sources, tasks, folder, progress)


def _load_images(settings: Settings, tasks: Sequence[Task]) -> tuple[Splits, Sources]:
    """Images of a job, those of the last job of this process if they are the same.

    Arms of a seed then share the decoded images, and all that was measured on a random backbone.
    """
    names = ("data", "task_data", "tasks", "limit", "validation")
    key = json.dumps([getattr(settings, name) for name in names])
    if key not in _last_images:
        _last_images.clear()
        _last_images[key] = load_images(settings, tasks)
    return _last_images[key]


def _take_checkpoint(source: Path, folder: Path, settings: Settings) -> int:
    """Copy what a run of another suite has trained, so that this run only evaluates it.

    Returns:
        The epochs that it trained. Those of ``longer`` were counted when it began: with more of
        them, by another version's count, the copy would be trained further.

    Raises:
        UsageError: it is not trained, or with other settings than those of this run.
    """
    theirs, ours = settings_of_run(source / FINAL), settings.plain()
    if not theirs or not (source / FINAL).exists():
        raise UsageError(f"checkpoints: no finished run in {source}; takes the out of a suite")
    for key in different_settings(theirs, ours):
        if key not in _OF_EVALUATION:
            raise UsageError(
                f"checkpoints: {source} was trained with {key}={theirs.get(key)!r}, now it is "
                f"{ours[key]!r}"
            )
    shutil.copy2(source / FINAL, folder / FINAL)
    return int(torch.load(folder / FINAL, weights_only=True, map_location="cpu")["epoch"])


def plain(config: DictConfig) -> dict[str, Any]:
    """The config as a dict, with its interpolations filled in.

    Raises:
        UsageError: a key is unknown; the line names the nearest one.
    """
    values: Any = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    known = (*_OF_THE_RUN, *_OF_THE_JOB)
    for key in values:
        if key not in known:
            raise UsageError(f"{key}: no such setting of a suite; {did_you_mean(key, known)}")
    return dict(values)


def job_settings(config: dict[str, Any]) -> Settings:
    """Settings of a job's run; the defaults are those of `sp-bench compare`."""
    given = {key: config[key] for key in _OF_THE_RUN if config.get(key) is not None}
    method = given.get("method", Settings.method)
    defaults = {"backbone": default_backbone(method), "precision": fast_precision()}
    here = Path.cwd()
    # A baseline has no settings of SP: a new default would make it another run.
    sp = {} if config["arm"] == BASELINE else SPConfig.from_dict(given.get("sp")).asdict()
    given["tasks"] = tuple(given.get("tasks", ()))
    for name in ("mean", "std", "rgb"):
        if name in given:
            given[name] = tuple(given[name])
    given["data"] = absolute(given.get("data", Settings.data), here)
    given["task_data"] = {
        name: absolute(source, here) for name, source in given.get("task_data", {}).items()
    }
    return Settings(**{**defaults, **given, "sp": sp})
