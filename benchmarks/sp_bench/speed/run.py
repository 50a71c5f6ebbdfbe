"""All of ``sp-bench speed``: the missing measurements, their JSON and their page."""

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
from sp_bench.results import write_json, write_text
from sp_bench.speed.crop_benchmark import crop_jobs
from sp_bench.speed.dataloader_benchmark import data_jobs
from sp_bench.speed.page import markdown
from sp_bench.speed.settings import SpeedSettings
from sp_bench.speed.step_benchmark import Jobs, k_jobs, peer_jobs, step_jobs
from sp_bench.speed.tables import tables

RESULT, PAGE, PARTS = "speed.json", "speed.md", "parts.json"

_JOBS: dict[str, Callable[[SpeedSettings], Jobs]] = {
    "steps": step_jobs,
    "crops": crop_jobs,
    "data": data_jobs,
    "peers": peer_jobs,
    "k": k_jobs,
}


def run_speed(settings: SpeedSettings, out: Path, log: Callable[[str], None]) -> dict[str, Any]:
    """Make the missing measurements, and write ``speed.json`` and ``speed.md``.

    ``out`` also has ``parts.json`` with the measurements so far: an interrupted run continues with
    the next measurement, and a finished one is read.

    Args:
        settings: parts, device and number of rounds.
        out: a new or empty folder, or one with the same settings.
        log: called with each line of progress.

    Returns:
        Content of ``speed.json``: settings, command, date, versions, machine, and ``parts``, the
        measurements by part and name.

    Raises:
        UsageError, DataError: one line that says what to change.
    """
    jobs = {part: _JOBS[part](settings) for part in settings.only}
    claim_output_dir(out, settings)
    if (out / RESULT).exists():
        log("measured before")
        return read(out / RESULT)
    parts = json.loads((out / PARTS).read_text()) if (out / PARTS).exists() else {}
    for part, by_name in jobs.items():
        done = parts.setdefault(part, {})
        for name, measure in by_name.items():
            if name not in done:
                log(f"{part}: {name}")
                done[name] = measure()
                write_json(out / PARTS, parts)
    device = torch.cuda.get_device_name() if settings.device == "cuda" else "cpu"
    result = {
        "settings": settings.plain(),
        "command": settings.command,
        "date": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
        "versions": versions(),
        "machine": {**machine(settings.precision), "device": device},
        "parts": {part: parts[part] for part in settings.only},
    }
    write_text(out / PAGE, markdown([result]))
    write_json(out / RESULT, result)
    return read(out / RESULT)


def read(path: Path) -> dict[str, Any]:
    """Read what `run_speed` wrote.

    Raises:
        UsageError: the file does not exist, or has other content.
    """
    try:
        result: dict[str, Any] = json.loads(path.read_text())
        result["parts"], result["machine"], result["command"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"from: {path} is no speed.json of sp-bench speed") from error
    try:
        tables(result)
    except KeyError as error:
        raise UsageError(
            f"from: {path} has no {error}: another version wrote it; run its command again"
        ) from error
    return result
