"""The command line ``sp-bench``, with the commands of `sp_bench.commands`."""

from __future__ import annotations

import sys

import typer

from sp_bench.cli_options import expand_list_options
from sp_bench.commands.compare import compare
from sp_bench.commands.evaluate import evaluate
from sp_bench.commands.report import report
from sp_bench.commands.results import collect, results
from sp_bench.commands.show import show
from sp_bench.commands.speed import speed
from sp_bench.commands.suite import HYDRA, suite
from sp_bench.errors import Stopped
from sp_bench.library_warnings import hide_library_warnings

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Measures the effect and the cost of Spatial Prediction (SP).",
)
app.command()(compare)
app.command("eval")(evaluate)
app.command()(report)
app.command()(show)
app.command()(speed)
app.command(context_settings=HYDRA)(suite)
app.command()(collect)
app.command()(results)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; an error of the user is one line and exit code 2."""
    expanded = expand_list_options(sys.argv[1:] if arguments is None else arguments)
    try:
        with hide_library_warnings():
            app(expanded)
    except Stopped as stop:
        print(f"sp-bench: {stop}", file=sys.stderr)
        sys.exit(130)
    except (ValueError, OSError) as error:
        line = _user_error(error)
        if line is None:
            raise
        print(f"sp-bench: {line}", file=sys.stderr)
        sys.exit(2)


def _user_error(error: Exception) -> str | None:
    """The line for an error of the user; None for any other error."""
    # Imported here, since these import torch, which takes seconds that --help must not take.
    from sp_bench.data import DataError
    from sp_bench.errors import UsageError
    from sp_plugin import ConfigError

    if isinstance(error, (UsageError, ConfigError, DataError)):
        return str(error)
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return None


if __name__ == "__main__":
    main()
