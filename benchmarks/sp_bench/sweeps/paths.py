"""Folders of a suite's runs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sp_bench.run import run_name


def run_folder(config: Mapping[str, Any]) -> Path:
    """Folder ``OUT/METHOD/seedS-ARM`` of a job's run.

    >>> run_folder({"out": "runs", "method": "byol", "seed": 1, "arm": "sp"}).as_posix()
    'runs/byol/seed1-sp'
    """
    name = run_name(int(config["seed"]), str(config["arm"]))
    return Path(str(config["out"])).expanduser() / str(config["method"]) / name
