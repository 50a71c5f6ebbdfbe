"""A job of a suite: one run, from a hydra config; jobs share nothing."""

from __future__ import annotations

import dataclasses
import datetime
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from sp_bench.config import Settings, claim_output_dir, fast_precision, usual_backbone
from sp_bench.environment import machine, versions
from sp_bench.errors import UsageError
from sp_bench.pretrain import check
from sp_bench.progress import Progress
from sp_bench.results import BASELINE, LONGER, Run, write_json
from sp_bench.run import RUN, finished, images_for
from sp_bench.sweeps.compute_matched import epochs_for
from sp_bench.sweeps.paths import folder_of
from sp_bench.task_selection import absolute
from sp_bench.tasks import find_tasks
from sp_plugin import SPConfig
from sp_plugin.validation import did_you_mean

ORIGIN = "origin.json"
_OWN = ("arm", "seed", "out", "prediction", "threads", "data_root", "host", "dry_run")
_FIELDS = tuple(field.name for field in dataclasses.fields(Settings) if field.name != "longer")


def run_job(told: dict[str, Any]) -> Run:
    """Pre-train and evaluate one arm of one seed, or read it where that is done.

    Its folder is ``OUT/METHOD/seedS-ARM``. Beside its ``run.json`` lies ``origin.json``: settings,
    data, versions, machine, date and the prediction that was written before.

    Raises:
        UsageError, DataError, ConfigError: one line that says what the user has to mend.
    """
    settings, arm, seed = settings_of(told), str(told["arm"]), int(told["seed"])
    if told.get("threads"):
        torch.set_num_threads(int(told["threads"]))
    folder = folder_of(told)
    tasks = find_tasks(settings.tasks)
    splits, sources = images_for(settings, tasks)
    check(settings, splits.train)
    claim_output_dir(folder, settings)
    if not (folder / RUN).exists():
        if arm == LONGER:
            settings = dataclasses.replace(settings, epochs=epochs_for(settings, splits.train))
        origin = {
            "settings": settings.plain(),
            "prediction": str(told.get("prediction") or ""),
            "data": splits.summary(),
            "versions": versions(),
            "machine": machine(settings.precision),
            "date": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
        }
        write_json(folder / ORIGIN, origin)
    return finished(settings, arm, seed, sources, tasks, folder, Progress(Console()))


def plain(config: DictConfig) -> dict[str, Any]:
    """The config as a dict, its interpolations filled in.

    Raises:
        UsageError: it has a setting that is none; the line names the nearest.
    """
    told: Any = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    known = (*_FIELDS, *_OWN)
    for key in told:
        if key not in known:
            raise UsageError(f"{key}: no such setting of a suite; {did_you_mean(key, known)}")
    return dict(told)


def settings_of(told: dict[str, Any]) -> Settings:
    """What a job measures; what is left open is settled as `sp-bench compare` does."""
    given = {key: value for key, value in told.items() if key in _FIELDS and value is not None}
    method = given.get("method", Settings.method)
    usual = {"backbone": usual_backbone(method), "precision": fast_precision()}
    here = Path.cwd()
    # A baseline has no settings of SP: a new default would make it another run.
    sp = {} if told["arm"] == BASELINE else SPConfig.from_dict(given.get("sp")).asdict()
    given["tasks"] = tuple(given.get("tasks", ()))
    given["data"] = absolute(given.get("data", Settings.data), here)
    given["task_data"] = {
        name: absolute(source, here) for name, source in given.get("task_data", {}).items()
    }
    return Settings(**{**usual, **given, "sp": sp})
