"""Where the runs of a suite lie."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sp_bench.run import run_name


def folder_of(told: Mapping[str, Any]) -> Path:
    """``OUT/METHOD/seedS-ARM``, of the run of a job.

    >>> folder_of({"out": "runs", "method": "byol", "seed": 1, "arm": "sp"}).as_posix()
    'runs/byol/seed1-sp'
    """
    where = Path(str(told["out"])).expanduser() / str(told["method"])
    return where / run_name(int(told["seed"]), str(told["arm"]))
