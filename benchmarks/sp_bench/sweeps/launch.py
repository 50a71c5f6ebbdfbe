"""From a suite's file to its jobs: hydra's multirun, with whatever launcher it is given."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import hydra
from omegaconf import DictConfig

from sp_bench.data import DataError
from sp_bench.errors import UsageError
from sp_bench.sweeps.external_command import run_command
from sp_bench.sweeps.job import plain, run_job
from sp_plugin import ConfigError


def job(config: DictConfig) -> Any:
    """One job: a command of a host where the suite has one, else a run of our own."""
    try:
        told = plain(config)
        return run_command(told) if "host" in told else run_job(told)
    except (UsageError, ConfigError, DataError) as error:
        # hydra would print a traceback, and go on to the next job, which has the same fault
        print(f"sp-bench: {error}", file=sys.stderr)
        raise SystemExit(2) from None


def launch(suite: Path, overrides: Sequence[str]) -> None:
    """Run all jobs of a suite that are not done yet.

    Args:
        suite: a YAML file, as hydra reads it; groups such as ``arm/`` lie beside it.
        overrides: in hydra's words: ``epochs=3``, ``seed=0,1``,
            ``hydra/launcher=submitit_slurm``.

    Raises:
        UsageError: no such file.
        SystemExit: hydra cannot make a config of it, or a job has failed; it says why itself.
    """
    if not suite.is_file():
        raise UsageError(f"suite: no file {suite}; takes one such as configs/bench/quick.yaml")
    folder = suite.expanduser().resolve().parent
    program = hydra.main(version_base="1.3", config_path=str(folder), config_name=suite.stem)
    given, sys.argv = sys.argv, ["sp-bench suite", *overrides]
    try:
        program(job)()
    finally:
        sys.argv = given
