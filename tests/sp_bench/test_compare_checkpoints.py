"""A comparison of runs that other frameworks made."""

from __future__ import annotations

import dataclasses
import functools
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from sp_bench.backbones import make_backbone
from sp_bench.channels import resolve_stats
from sp_bench.checkpoints.find import find_checkpoint
from sp_bench.cli import main
from sp_bench.compare import parse_checkpoints
from sp_bench.config import EvalSettings
from sp_bench.data import load_data
from sp_bench.errors import UsageError
from sp_bench.results import Results
from sp_bench.task_data import Sources
from sp_bench.tasks import find_tasks


def state(seed: int) -> dict[str, Any]:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return make_backbone("tiny_resnet", 32).state_dict()


@pytest.fixture
def framework_runs(tmp_path: Path) -> Path:
    """Run folders as of solo-learn and MMSelfSup, and two classes of images."""
    solo, mm = tmp_path / "solo", tmp_path / "mm"
    (solo / "x1").mkdir(parents=True)
    mm.mkdir()
    for epoch in (9, 99):
        saved = {"state_dict": {f"backbone.{k}": v for k, v in state(epoch).items()}}
        torch.save(saved, solo / "x1" / f"simclr-x1-ep={epoch}.ckpt")
        torch.save(saved, mm / f"epoch_{epoch}.pth")
    (mm / "last_checkpoint").write_text("/elsewhere/mm/epoch_9.pth")
    for label, name in enumerate(("cat", "dog")):
        (tmp_path / "pets" / name).mkdir(parents=True)
        for i in range(12):
            image = Image.new("RGB", (32, 32), (i * 20, 90, 200 * label))
            image.save(tmp_path / "pets" / name / f"{i}.png")
    return tmp_path


def test_last_checkpoint_of_a_run_is_found(framework_runs, tmp_path):
    assert find_checkpoint(framework_runs / "solo").name == "simclr-x1-ep=99.ckpt"
    assert find_checkpoint(framework_runs / "mm").name == "epoch_9.pth"
    (framework_runs / "mm" / "last_checkpoint").unlink()
    assert find_checkpoint(framework_runs / "mm").name == "epoch_99.pth"
    (framework_runs / "solo" / "final.ckpt").write_bytes(b"")
    assert find_checkpoint(framework_runs / "solo").name == "final.ckpt"
    for path, says in (
        (tmp_path / "no", "is not there"),
        (framework_runs / "pets", "checkpoint: none in"),
    ):
        with pytest.raises(UsageError, match=says):
            find_checkpoint(path)


@pytest.mark.parametrize("steps", [(500, 1000, 1500), (1500, 1000, 500), (1000, 1500, 500)])
def test_last_folder_of_a_trainer_is_found(steps, tmp_path):
    """As of Hugging Face's Trainer; the numbers of the folders above do not count."""
    for step in steps:
        folder = tmp_path / "run-7" / f"checkpoint-{step}"
        folder.mkdir(parents=True)
        for name in ("model.safetensors", "optimizer.pt"):
            (folder / name).write_bytes(b"")
    (tmp_path / "run-7" / "model.safetensors").write_bytes(b"")
    found = find_checkpoint(tmp_path / "run-7")
    assert found == tmp_path / "run-7" / "checkpoint-1500" / "model.safetensors"


def test_runs_of_two_frameworks_are_compared(framework_runs, capsys):
    command = [
        "compare", "--from", f"baseline={framework_runs / 'mm'}", f"sp={framework_runs / 'solo'}",
        "--side", "32",
        "--backbone", "tiny_resnet", "--data", str(framework_runs / "pets"), "--tasks", "knn",
        "--out", str(framework_runs / "out"),
    ]  # fmt: skip
    for _ in range(2):
        with pytest.raises(SystemExit) as stop:
            main(command)
        assert stop.value.code == 0
        said = capsys.readouterr().out
        assert "70 of 70 weights matched below 'backbone.'" in said and "kNN" in said
    results = Results.load(framework_runs / "out" / "results.json")
    assert [run.checkpoint for run in results.runs] == ["epoch_9.pth", "simclr-x1-ep=99.ckpt"]
    row, _ = results.rows  # kNN, and chance
    evaluations = [json.loads((framework_runs / "out" / f"seed0-{arm}" / "eval.json").read_text())
            for arm in ("baseline", "sp")]  # fmt: skip
    assert row.difference == evaluations[1]["metrics"]["knn"] - evaluations[0]["metrics"]["knn"]
    assert "<table>" in (framework_runs / "out" / "report.html").read_text()


@pytest.mark.parametrize(
    ("given", "line"),
    [
        (["sp=a"], "from: no baseline=CHECKPOINT; takes one of baseline and one of sp"),
        (["bseline=a"], "from: no arm 'bseline'; did you mean 'baseline'?"),
        (["a"], "from: got 'a', takes ARM=CHECKPOINT, such as sp=runs/b"),
        (["baseline=a", "sp=b", "sp=c"],
         "from: got 1 of baseline, 2 of sp; takes as many of each, in pairs"),
    ],
)  # fmt: skip
def test_bad_from_option_is_refused(given, line):
    with pytest.raises(UsageError) as error:
        parse_checkpoints(given)
    assert str(error.value) == line


def test_unknown_statistics_are_named(tmp_path):
    ours, foreign = (tmp_path / name / "x.ckpt" for name in ("ours", "foreign"))
    ours.parent.mkdir()
    (ours.parent / "settings.json").write_text('{"method": "byol", "mean": null}')
    settings = EvalSettings("tiny_resnet", data="demo", side=32)
    sources = Sources(load_data("demo", size=30), {})
    resolve = functools.partial(
        resolve_stats, sources=sources, tasks=find_tasks(("knn",)), log=print
    )
    with pytest.raises(UsageError, match=r"unknown for .*foreign/x.ckpt, .* --mean and --std"):
        resolve(settings, checkpoints=[ours, foreign])
    given = dataclasses.replace(settings, mean=(0.5,) * 3, std=(0.2,) * 3)
    assert resolve(given, checkpoints=[ours, foreign]).mean == (0.5,) * 3
