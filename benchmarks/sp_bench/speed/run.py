"""All of ``sp-bench speed``: measure what is not measured yet, and write it down."""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from sp_bench.config import claim_output_dir
from sp_bench.environment import machine, versions
from sp_bench.errors import UsageError
from sp_bench.results import write_json
from sp_bench.speed.crop_benchmark import crop_jobs
from sp_bench.speed.dataloader_benchmark import data_jobs
from sp_bench.speed.page import markdown
from sp_bench.speed.settings import SpeedSettings
from sp_bench.speed.step_benchmark import Jobs, k_jobs, peer_jobs, step_jobs

RESULT, PAGE, PARTS = "speed.json", "speed.md", "parts.json"

_JOBS: dict[str, Callable[[SpeedSettings], Jobs]] = {
    "steps": step_jobs,
    "crops": crop_jobs,
    "data": data_jobs,
    "peers": peer_jobs,
    "k": k_jobs,
}


def run_speed(settings: SpeedSettings, out: Path, tell: Callable[[str], None]) -> dict[str, Any]:
    """Measure, and write ``speed.json`` and ``speed.md``.

    ``out`` also holds ``parts.json`` with what is measured so far: a run that was stopped goes on
    with the next measurement, and a finished one is read.

    Args:
        settings: what is timed.
        out: a new or empty folder, or one of the same settings.
        tell: is told, a line at a time.

    Returns:
        What is in ``speed.json``: settings, command, date, versions, machine, and under ``parts``
        the measurements of each part by name.

    Raises:
        UsageError, DataError: one line that says what the user has to mend.
    """
    jobs = {part: _JOBS[part](settings) for part in settings.only}
    claim_output_dir(out, settings)
    if (out / RESULT).exists():
        tell("measured before")
        return read(out / RESULT)
    parts = json.loads((out / PARTS).read_text()) if (out / PARTS).exists() else {}
    for part, named in jobs.items():
        done = parts.setdefault(part, {})
        for name, measure in named.items():
            if name not in done:
                tell(f"{part}: {name}")
                done[name] = measure()
                write_json(out / PARTS, parts)
    result = {
        "settings": settings.plain(),
        "command": settings.command,
        "date": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
        "versions": versions(),
        "machine": {**machine(settings.precision), "device": _device(settings)},
        "parts": {part: parts[part] for part in settings.only},
    }
    (out / PAGE).write_text(markdown([result]))
    write_json(out / RESULT, result)
    return read(out / RESULT)


def read(path: Path) -> dict[str, Any]:
    """What `run_speed` wrote.

    Raises:
        UsageError: the file is not there, or is something else.
    """
    try:
        told: dict[str, Any] = json.loads(path.read_text())
        told["parts"], told["machine"], told["command"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"from: {path} is no speed.json of sp-bench speed") from error
    return told


def _device(settings: SpeedSettings) -> str:
    return torch.cuda.get_device_name() if settings.device == "cuda" else "cpu"
