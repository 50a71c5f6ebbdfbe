"""``sp-bench suite``: all runs of a sweep from one file."""

from __future__ import annotations

from typing import Annotated

import typer

from sp_bench.errors import UsageError, stoppable

HYDRA = {"ignore_unknown_options": True, "allow_extra_args": True}


def suite(
    file: Annotated[str, typer.Argument(help="YAML file, or the name of a suite such as quick.")],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            help="hydra's: epochs=3, seed=0,1, method=simclr,byol, hydra/launcher=submitit_slurm."
        ),
    ] = None,
) -> None:
    """Make the missing runs of a suite: each method, arm and seed is a separate job."""
    try:
        from sp_bench.sweeps.launch import launch
    except ImportError as error:
        raise UsageError(
            f"suite: takes {error.name}; pip install 'sp-plugin[bench]' brings it"
        ) from error
    with stoppable():
        launch(file, overrides or [])
