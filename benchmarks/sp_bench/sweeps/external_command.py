"""Jobs that another program runs: the commands of solo-learn or of MMEngine."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path
from typing import Any

from rich.console import Console

from sp_bench.errors import UsageError
from sp_bench.sweeps.paths import run_folder

DONE = "done.txt"


def run_command(settings: dict[str, Any]) -> int:
    """Run the command of a job, or only print it with ``dry_run=true``.

    A command that has succeeded before is not run again; ``done.txt`` holds its text.

    Args:
        settings: ``host.command``, a list of words, in which hydra has filled in method, arm and
            seed; ``host.checkout``, the working directory; ``out``; ``dry_run``.

    Returns:
        The command's exit code.

    Raises:
        UsageError: the command or its folder is missing, the command has failed, or another one has
            succeeded with this ``out``.
    """
    words = [str(word) for word in settings["host"]["command"]]
    command = shlex.join(words)
    done = run_folder(settings) / DONE
    if settings.get("dry_run"):
        _print(command)
        return 0
    if done.exists():
        made_by = done.read_text().removesuffix("\n")
        if made_by != command:
            raise UsageError(
                f"out: {done.parent} was made by another command: {made_by}; takes another out"
            )
        _print(f"done before: {command}")
        return 0
    checkout = Path(str(settings["host"]["checkout"])).expanduser()
    try:
        code = subprocess.run(words, cwd=checkout, check=False).returncode
    except OSError as error:
        raise UsageError(f"command: {words[0]} in {checkout}: {error.strerror}") from error
    if code:
        raise UsageError(f"command: ended with {code}: {command}")
    done.parent.mkdir(parents=True, exist_ok=True)
    done.write_text(f"{command}\n")
    return code


def _print(line: str) -> None:
    Console().print(line, soft_wrap=True, highlight=False, markup=False)
