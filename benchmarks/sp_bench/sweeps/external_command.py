"""Suites that a host runs itself: the commands of solo-learn's or MMEngine's own programs."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path
from typing import Any

from rich.console import Console

from sp_bench.errors import UsageError
from sp_bench.sweeps.paths import folder_of

DONE = "done.txt"


def run_command(told: dict[str, Any]) -> int:
    """Run a job's command, or only print it with ``dry_run=true``; one that ended well is not run
    again.

    Args:
        told: ``host.command``, a list of words, in which hydra has filled in method, arm and
            seed; ``host.checkout``, the folder that it runs in; ``out``; ``dry_run``.

    Returns:
        The command's exit code.

    Raises:
        UsageError: the command or its folder is not there, or it has failed.
    """
    words = [str(word) for word in told["host"]["command"]]
    folder = folder_of(told)
    printed = shlex.join(words)
    console = Console()
    if told.get("dry_run"):
        console.print(printed, soft_wrap=True, highlight=False, markup=False)
        return 0
    done = folder / DONE
    if done.exists():
        console.print(f"done before: {printed}", soft_wrap=True, highlight=False, markup=False)
        return 0
    where = Path(str(told["host"]["checkout"])).expanduser()
    try:
        code = subprocess.run(words, cwd=where, check=False).returncode
    except OSError as error:
        raise UsageError(f"command: {words[0]} in {where}: {error.strerror}") from error
    if code:
        raise UsageError(f"command: ended with {code}: {printed}")
    folder.mkdir(parents=True, exist_ok=True)
    done.write_text(printed + "\n")
    return code
