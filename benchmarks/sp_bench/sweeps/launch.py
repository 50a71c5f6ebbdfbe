"""From the file of a suite to its jobs, by hydra's multirun and the launcher of its config."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import hydra
from omegaconf import DictConfig
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from sp_bench.data import DataError
from sp_bench.errors import UsageError
from sp_bench.sweeps.external_command import run_command
from sp_bench.sweeps.job import plain, run_job
from sp_plugin import ConfigError, bundled_configs
from sp_plugin.validation import did_you_mean


def job(config: DictConfig) -> Any:
    """One job: an external command if the suite has one, else a run of sp-bench."""
    try:
        values = plain(config)
        return run_command(values) if "host" in values else run_job(values)
    except (UsageError, ConfigError, DataError, OmegaConfBaseException) as error:
        # hydra would print a traceback and start the next job, which has the same error.
        print(f"sp-bench: {_one_line(error)}", file=sys.stderr)
        raise SystemExit(2) from None


def launch(suite: str, overrides: Sequence[str]) -> None:
    """Run all jobs of a suite that are not finished.

    The suite gets two more settings: ``suite_name``, for its default output folder, and
    ``configs_dir``, the folder of the configs of all frameworks.

    Args:
        suite: YAML file in hydra's format, next to its config groups such as ``arm/``; or the
            name of a bundled suite, such as ``quick``.
        overrides: hydra's overrides: ``epochs=3``, ``seed=0,1``,
            ``hydra/launcher=submitit_slurm``.

    Raises:
        UsageError: there is no such file and no such suite.
        SystemExit: hydra cannot read the config, or a job has failed; the reason was printed.
    """
    file = find_suite(suite)
    program = hydra.main(version_base="1.3", config_path=str(file.parent), config_name=file.stem)
    # hydra reads its sweep folder before it knows the job, so the config cannot ask it for names.
    names = {"suite_name": file.stem, "configs_dir": str(bundled_configs.folder("bench").parent)}
    given = [f"++{key}={_quoted(value)}" for key, value in names.items()]
    arguments, sys.argv = sys.argv, ["sp-bench suite", *given, *overrides]
    try:
        program(job)()
    finally:
        sys.argv = arguments


def find_suite(suite: str) -> Path:
    """Absolute path of a suite: a file, or the bundled one of this name.

    Raises:
        UsageError: there is neither; the line has the nearest name.

    >>> find_suite("quick").name
    'quick.yaml'
    """
    file = Path(suite).expanduser()
    if file.is_file():
        return file.resolve()
    bundled = bundled_suites()
    if suite in bundled:
        return bundled[suite]
    hint = did_you_mean(file.stem, bundled)
    raise UsageError(f"suite: no file {suite}; takes a YAML file or the name of a suite; {hint}")


def bundled_suites() -> dict[str, Path]:
    """Files of the bundled suites by name; what they share is not one of them."""
    files = sorted(bundled_configs.folder("bench").glob("*.yaml"))
    return {file.stem: file for file in files if "sweeper:" in file.read_text()}


def _quoted(value: str) -> str:
    """A value in hydra's quotes, which keep a path with spaces, commas or quotes whole."""
    escaped = value.replace("'", "\\'")
    return f"'{escaped}'"


def _one_line(error: Exception) -> str:
    if isinstance(error, MissingMandatoryValue):
        return f"{error.full_key}: got nothing, takes a value: {error.full_key}=VALUE"
    if isinstance(error, OmegaConfBaseException):
        return f"{error.full_key}: {str(error.msg or error).splitlines()[0]}"
    return str(error)
