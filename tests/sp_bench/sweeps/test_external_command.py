"""Suites that other programs run: their commands, and that the programs accept them."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from sp_bench.errors import UsageError
from sp_bench.sweeps.external_command import run_command

ROOT = Path(__file__).parents[3]
BENCH = ROOT / "configs" / "bench"


def commands(
    sp_bench: Any, suite: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> list[list[str]]:
    file = str(BENCH / f"{suite}.yaml")
    sp_bench("suite", file, f"out={tmp_path}", "host.checkout=.", "dry_run=true", "seed=0")
    lines = capsys.readouterr().out.splitlines()
    return [shlex.split(line) for line in lines if line.startswith("python3 ")]


def test_mmselfsup_commands_use_real_configs(
    sp_bench: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import mmselfsup
    from mmengine.config import Config

    shipped = Path(mmselfsup.__file__).parent / ".mim"
    found = commands(sp_bench, "imagenet", tmp_path, capsys)
    assert len(found) == 6 * 2
    names = {words[2] for words in found}
    plain = {name for name in names if not name.startswith("/")}
    assert len(plain) == len(names - plain) == 6
    assert (shipped / found[0][1]).is_file()
    for name in names:
        config = Config.fromfile(shipped / name if name in plain else name)
        config.merge_from_dict({"randomness.seed": 1})
        assert config.randomness.seed == 1
        assert (config.model.type == "SPAlgorithm") == (name not in plain)
    of_mae = [words for words in found if "mae" in words[2]]
    ours = next(words[2] for words in of_mae if words[2] not in plain)
    theirs = next(words[2] for words in of_mae if words[2] in plain)
    base = Config.fromfile(shipped / theirs).model
    base.pop("_scope_", None)
    algorithm = Config.fromfile(ours).model.algorithm
    algorithm.pop("_scope_", None)
    assert algorithm == base


def test_finished_command_is_not_rerun(sp_bench: Any, tmp_path: Path) -> None:
    suite = tmp_path / "touch.yaml"
    suite.write_text(
        "defaults: [_self_]\nmethod: simclr\nseed: 0\narm: sp\n"
        f"out: {tmp_path}/runs\n"
        "hydra: {mode: MULTIRUN, sweep: {dir: '${out}/jobs'}, sweeper: {params: {seed: '0,1'}}}\n"
        f"host: {{checkout: '{tmp_path}', command: [sh, -c, 'echo ${{seed}} >> ran']}}\n"
    )
    for _ in range(2):
        sp_bench("suite", str(suite))
    assert (tmp_path / "ran").read_text().split() == ["0", "1"]


def test_another_command_takes_another_out(tmp_path: Path) -> None:
    def job(out: str, word: str) -> dict[str, Any]:
        host = {"checkout": tmp_path, "command": ["sh", "-c", f"echo {word} >> ran"]}
        return {"out": tmp_path / out, "method": "byol", "seed": 0, "arm": "sp", "host": host}

    for word in ("a", "a"):
        run_command(job("runs", word))
    says = r"^out: .*seed0-sp was made by another command: sh -c 'echo a >> ran'; takes another out"
    with pytest.raises(UsageError, match=says):
        run_command(job("runs", "b"))
    run_command(job("more", "b"))
    assert (tmp_path / "ran").read_text().split() == ["a", "b"]


def test_failed_command_is_one_line_error(
    sp_bench: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = str(BENCH / "imagenet100.yaml")
    words = ["host.command=[ls,nothing-here]", f"host.checkout={tmp_path}", f"out={tmp_path}/runs"]
    with pytest.raises(SystemExit) as stop:
        sp_bench("suite", file, *words)
    assert stop.value.code == 2
    assert "sp-bench: command: ended with 2: ls nothing-here" in capsys.readouterr().err
    assert list((tmp_path / "runs").glob("**/done.txt")) == []


@pytest.mark.skipif(not os.environ.get("SOLO_LEARN"), reason="needs a checkout of solo-learn")
def test_solo_learn_accepts_each_command(
    sp_bench: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = commands(sp_bench, "imagenet100", tmp_path, capsys)
    assert len(found) == 6 * 2
    checkout = Path(os.environ["SOLO_LEARN"])
    for words in found:
        done = subprocess.run(
            [sys.executable, *words[1:], "--cfg", "job"],
            cwd=checkout,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        on = "++sp.enabled=True" in words
        assert f"enabled: {'true' if on else 'false'}" in done.stdout.split("sp:")[1]
