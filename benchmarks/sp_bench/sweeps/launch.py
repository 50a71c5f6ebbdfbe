"""From the file of a suite to its jobs, by hydra's multirun and the launcher of its config."""

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
    """One job: an external command if the suite has one, else a run of sp-bench."""
    try:
        values = plain(config)
        return run_command(values) if "host" in values else run_job(values)
    except (UsageError, ConfigError, DataError) as error:
        # hydra would print a traceback and start the next job, which has the same error.
        print(f"sp-bench: {error}", file=sys.stderr)
        raise SystemExit(2) from None


def launch(suite: Path, overrides: Sequence[str]) -> None:
    """Run all jobs of a suite that are not finished.

    Args:
        suite: YAML file in hydra's format, next to its config groups such as ``arm/``.
        overrides: hydra's overrides: ``epochs=3``, ``seed=0,1``,
            ``hydra/launcher=submitit_slurm``.

    Raises:
        UsageError: the file does not exist.
        SystemExit: hydra cannot read the config, or a job has failed; the reason was printed.
    """
    if not suite.is_file():
        raise UsageError(f"suite: no file {suite}; takes one such as configs/bench/quick.yaml")
    folder = suite.expanduser().resolve().parent
    program = hydra.main(version_base="1.3", config_path=str(folder), config_name=suite.stem)
    arguments, sys.argv = sys.argv, ["sp-bench suite", *overrides]
    try:
        program(job)()
    finally:
        sys.argv = arguments
