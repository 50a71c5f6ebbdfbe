"""Two processes do not make the same run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console
from sp_bench.compare import compare
from sp_bench.config import EvalSettings, Settings
from sp_bench.errors import UsageError
from sp_bench.evaluation import run_evaluation
from sp_bench.progress import Progress
from sp_bench.run_lock import locked

HOLD = (
    "import sys, time; from pathlib import Path; from sp_bench.run_lock import locked\n"
    "with locked(Path(sys.argv[1])): print('held', flush=True); time.sleep(600)"
)


def test_killed_process_frees_its_run(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None and other.stdout.readline() == "held\n"
        with pytest.raises(UsageError, match=f"another process is making {tmp_path}"):
            locked(tmp_path).__enter__()
        other.kill()
    with locked(tmp_path):
        pass
    with locked(tmp_path):  # freed at the end of the block, too
        pass


def test_run_in_the_making_is_refused(tmp_path: Path) -> None:
    settings = Settings(limit=40, epochs=1, side=32, batch_size=8, tasks=("rank",))
    run = tmp_path / "runs" / "seed0-baseline"
    compare(settings, [0], tmp_path / "runs", Progress(Console(quiet=True)))
    (run / "run.json").unlink()
    with locked(run), pytest.raises(UsageError, match="another process is making"):
        compare(settings, [0], tmp_path / "runs", Progress(Console(quiet=True)))
    compare(settings, [0], tmp_path / "runs", Progress(Console(quiet=True)))


def test_evaluation_in_the_making_is_refused(tmp_path: Path) -> None:
    settings = EvalSettings(backbone="tiny_resnet", data="demo", limit=40, side=32, tasks=("rank",))
    (tmp_path / "eval").mkdir()
    run_evaluation(settings, tmp_path / "eval", print)
    (tmp_path / "eval" / "eval.json").unlink()
    with locked(tmp_path / "eval"), pytest.raises(UsageError, match="another process is making"):
        run_evaluation(settings, tmp_path / "eval", print)
