"""Evaluation of one backbone from end to end: resuming, caching and one-line errors."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from rich.console import Console
from sp_bench import backbones, task_runner
from sp_bench.backbones import make_backbone
from sp_bench.cli import main
from sp_bench.compare import compare, shared_pool, shared_side
from sp_bench.config import EvalSettings, Settings
from sp_bench.data import load_data
from sp_bench.errors import UsageError
from sp_bench.evaluation import resolved_pool, run_evaluation
from sp_bench.frozen_backbone import FrozenBackbone
from sp_bench.method_evaluation import freeze_method, random_backbone
from sp_bench.pretrain import new_method
from sp_bench.progress import Progress
from sp_bench.task_data import Sources


@pytest.fixture(scope="module")
def sources() -> Sources:
    return Sources(load_data("demo", size=54), {})


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        state = make_backbone("tiny_resnet", 32).state_dict()
    path = tmp_path / "method.ckpt"
    torch.save({"state_dict": {f"backbone.{name}": value for name, value in state.items()}}, path)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes of 12 images."""
    for label, name in enumerate(("cat", "dog")):
        (tmp_path / "pets" / name).mkdir(parents=True)
        for i in range(12):
            image = Image.new("RGB", (40, 40), (i * 20, 90, 200 * label))
            image.save(tmp_path / "pets" / name / f"{i}.png")
    return tmp_path / "pets"


def settings(**given: Any) -> EvalSettings:
    return EvalSettings(**{"backbone": "tiny_resnet", "side": 32, "tasks": ("knn",), **given})


def run(out: Path, sources: Sources, **given: Any) -> dict[str, Any]:
    return run_evaluation(settings(**given), out, lambda line: None, sources)


@pytest.mark.parametrize("place", ["compare", "suite"])
def test_size_is_that_of_the_run(place, tmp_path, checkpoint):
    run_dir = tmp_path / "out" / "seed0-sp"
    run_dir.mkdir(parents=True)
    path = checkpoint.rename(run_dir / "final.ckpt")
    of_run = {"method": "simclr", "side": 48}
    above = {"compare": run_dir.parent, "suite": run_dir}[place]
    (above / "settings.json").write_text(json.dumps(of_run))
    other = tmp_path / "other" / "final.ckpt"
    assert settings(side=None, checkpoint=str(path)).resolved_side == 48
    assert settings(side=32, checkpoint=str(path)).resolved_side == 32
    assert settings(side=None, checkpoint=str(other)).resolved_side == 64
    assert settings(side=None).resolved_side == 64
    assert settings(side=None, backbone="resnet18").resolved_side == 224
    with pytest.raises(UsageError, match=r"side: got 64 px of .*other.*, 48 px of .*--side"):
        shared_side(settings(side=None), [other, path])
    assert shared_side(settings(side=None), [path, path]) == 48


def test_eval_of_a_run_equals_its_own(tmp_path):
    """A ViT with a class token: pooled as in its run."""
    tasks = ("rank",)
    of_run = Settings(backbone="tiny_vit", limit=20, epochs=1, side=32, batch_size=8, tasks=tasks)
    results = compare(of_run, [0], tmp_path / "run", Progress(Console(quiet=True)))
    path = tmp_path / "run" / "seed0-sp" / "final.ckpt"
    images = Sources(load_data("demo", limit=20), {})
    lines: list[str] = []
    given = settings(backbone="tiny_vit", side=None, tasks=tasks, checkpoint=str(path))
    found = run_evaluation(given, tmp_path / "a", lines.append, images)
    assert found["metrics"] == pytest.approx(results.runs[1].metrics, rel=1e-5)
    assert found["settings"]["pool"] == "cls"
    assert "pool: cls, as in the checkpoint's run" in lines
    assert run_evaluation(given, tmp_path / "a", lines.append, images) == found
    other = dataclasses.replace(given, pool="mean")
    with pytest.raises(UsageError, match=r"was made with pool='cls', now it is 'mean'"):
        run_evaluation(other, tmp_path / "a", lines.append, images)
    foreign = tmp_path / "foreign.ckpt"
    assert shared_pool(given, [path, path]) == "cls"
    with pytest.raises(UsageError, match=r"pool: got cls of .*seed0-sp.*, mean of .*--pool mean"):
        shared_pool(given, [path, foreign])
    assert shared_pool(other, [path, foreign]) == "mean"


def test_class_token_needs_one(tmp_path, checkpoint):
    """A ResNet of a run, and MAE's ViT, whose own pooling is the mean."""
    stored = tmp_path / "settings.json"
    stored.write_text(json.dumps({"method": "simclr"}))
    given = settings(checkpoint=str(checkpoint))
    assert resolved_pool(given) == "mean"
    vit = dataclasses.replace(given, backbone="tiny_vit")
    assert resolved_pool(vit) == "cls"
    stored.write_text(json.dumps({"method": "mae"}))
    assert resolved_pool(vit) == "mean"


def test_unreadable_images_are_reported(tmp_path, folder):
    for i in range(100):
        Image.new("RGB", (40, 40)).save(folder / "cat" / f"more{i}.png")
    (folder / "cat" / "broken.png").write_bytes(b"no image")
    lines: list[str] = []
    given = settings(data=str(folder), tasks=("rank",))
    found = run_evaluation(given, tmp_path / "out", lines.append)
    (line,) = (line for line in lines if line.startswith("left out, unreadable: 1 ("))
    assert "broken.png" in line
    assert len(found["data"]["rank"]["skipped"]) == 1


def test_arms_are_measured_on_the_same_crops():
    plain, small = (Settings(side=32, sp=sp) for sp in ({}, {"crop_size": 8}))
    untrained = random_backbone(plain, 0)
    assert random_backbone(small, 0) is untrained
    frozen = freeze_method(small, new_method(small, 0))
    assert frozen.crop_size == untrained.crop_size == 16


def test_negative_seed_is_refused():
    with pytest.raises(UsageError, match="seeds: got -1"):
        settings(seed=-1)


def test_checkpoint_backbone_is_evaluated(tmp_path, sources, checkpoint):
    given = run(tmp_path / "a", sources, checkpoint=str(checkpoint), tasks=("knn", "linear"))
    assert given["checkpoint"]["prefix"] == "backbone."
    # Random weights of the same seed are the same backbone.
    same = run(tmp_path / "b", sources, seed=3, tasks=("linear", "knn"))
    other = run(tmp_path / "c", sources, seed=4, tasks=("linear", "knn"))
    assert given["metrics"] == same["metrics"] != other["metrics"]
    assert list(same["metrics"]) == ["linear", "linear_chance", "knn", "knn_chance"]
    assert given == json.loads((tmp_path / "a" / "eval.json").read_text())
    assert given["compute"]["forward_flops"] > 1e7
    assert given["data"]["knn"] == {"name": "demo", "train": 54, "test": 18, "skipped": []}


def test_evaluation_resumes_and_is_cached(tmp_path, sources, monkeypatch):
    started = []
    measure = task_runner.run_task

    def stop_at_linear(task, context):
        started.append(task.name)
        if task.name == "linear" and started.count("linear") == 1:
            raise KeyboardInterrupt
        return measure(task, context)

    monkeypatch.setattr(task_runner, "run_task", stop_at_linear)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "a", sources, tasks=("knn", "linear"))
    assert not (tmp_path / "a" / "eval.json").exists()
    first = run(tmp_path / "a", sources, tasks=("knn", "linear"))
    assert started == ["knn", "linear", "linear"]
    assert run(tmp_path / "a", sources, tasks=("knn", "linear")) == first
    assert started == ["knn", "linear", "linear"]
    with pytest.raises(UsageError, match=r"was made with tasks=\['knn', 'linear'\]"):
        run(tmp_path / "a", sources)


def test_replaced_checkpoint_is_refused(tmp_path, sources, checkpoint):
    """Whether the evaluation is finished or not; one of an earlier version has no digest."""
    given = {"checkpoint": str(checkpoint), "tasks": ("rank",)}
    first = run(tmp_path / "a", sources, **given)
    assert run(tmp_path / "a", sources, **given) == first
    weights = torch.load(checkpoint, weights_only=True)
    weights["state_dict"]["backbone.conv1.0.weight"] += 1
    torch.save(weights, checkpoint)
    says = r"^out: .* was made with other weights, the checkpoint has changed since; give another"
    with pytest.raises(UsageError, match=says):
        run(tmp_path / "a", sources, **given)
    (tmp_path / "a" / "eval.json").rename(tmp_path / "eval.json")
    with pytest.raises(UsageError, match=says):
        run(tmp_path / "a", sources, **given)
    (tmp_path / "eval.json").rename(tmp_path / "a" / "eval.json")
    stored = tmp_path / "a" / "settings.json"
    older = json.loads(stored.read_text())
    assert len(older.pop("weights_sha256")) == 64
    stored.write_text(json.dumps(older))
    assert run(tmp_path / "a", sources, **given) == first
    checkpoint.unlink()
    assert run(tmp_path / "a", sources, **given) == first


def test_bf16_is_recorded(tmp_path, sources):
    """And a folder that was made before there was the setting is float32, and goes on."""
    tasks = ("rank",)
    exact, half = (
        run(tmp_path / f"{bf16}", sources, tasks=tasks, bf16=bf16) for bf16 in (False, True)
    )
    assert [result["machine"]["precision"] for result in (exact, half)] == ["32-true", "bf16-mixed"]
    assert exact["metrics"]["rank_rankme"] != half["metrics"]["rank_rankme"]
    assert exact["metrics"]["rank_rankme"] == pytest.approx(half["metrics"]["rank_rankme"], rel=0.1)
    stored = tmp_path / "False" / "settings.json"
    older = {key: value for key, value in json.loads(stored.read_text()).items() if key != "bf16"}
    stored.write_text(json.dumps(older))
    assert run(tmp_path / "False", sources, tasks=tasks) == exact
    with pytest.raises(UsageError, match="was made with bf16=None, now it is True"):
        run(tmp_path / "False", sources, tasks=tasks, bf16=True)


def test_older_metrics_are_measured_anew(tmp_path, sources):
    whole = run(tmp_path / "a", sources, tasks=("knn",))
    folder = tmp_path / "a"
    stored = json.loads((folder / "tasks.json").read_text())
    stored["knn"]["metrics"] = {"knn_of_an_earlier_version": 0.9}
    (folder / "tasks.json").write_text(json.dumps(stored))
    (folder / "eval.json").unlink()
    assert run(folder, sources, tasks=("knn",))["metrics"] == whole["metrics"]


def test_long_task_tells_images_encoded(tmp_path, sources, monkeypatch):
    monkeypatch.setattr(task_runner, "_LINE_EVERY", 0.0)
    lines: list[str] = []
    run_evaluation(settings(), tmp_path / "a", lines.append, sources)
    counts = [int(line.split()[1]) for line in lines if "images encoded in" in line]
    assert counts == [54, 54 + 18]  # training and test images, of which no batch has all


def test_global_rng_is_unchanged(tmp_path, sources):
    before = torch.get_rng_state()
    run(tmp_path / "a", sources)
    assert torch.equal(before, torch.get_rng_state())


def refusal_line(capsys: Any, *arguments: str) -> str:
    with pytest.raises(SystemExit) as stop:
        main(["eval", *arguments])
    said = capsys.readouterr()
    assert stop.value.code == 2 and said.err.count("\n") == 1
    return said.err.removeprefix("sp-bench: ").strip()


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (["--backbone", "tiny_resnt"], "backbone: no 'tiny_resnt'; did you mean 'tiny_resnet'?"),
        (["--tasks", "lineer"], "tasks: there is no 'lineer'; did you mean 'linear'?"),
        (["--checkpoint", "no.ckpt"], "no.ckpt is not there"),
        (["--pool", "max"], "pool: got 'max', takes mean or cls"),
        (["--side", "3"], "side: got 3, takes a whole number from 16 up"),
        (["--tasks", "knn"], "task knn: it takes images in classes"),
        (["--tasks", "segmentation", "--data", "no/such"], "task segmentation: it takes images"),
        (["--data", "segmentation=no/such"], "task segmentation: data='no/such': the folder does"),
        (["--data", "knn=demo", "--tasks", "pair"], "data: given for knn, which is not among"),
        (["--tasks-from", "no.toml"], "tasks-from: no.toml cannot be read: No such file"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_eval_refuses_in_one_line(given, says, capsys, tmp_path, folder):
    defaults = {"--backbone": "tiny_resnet", "--out": str(tmp_path / "out")}
    if given[:2] == ["--tasks", "segmentation"]:
        given = ["--tasks", "knn,segmentation", "--data", f"knn={folder}"]
    elif given[0] not in ("--tasks", "--data", "--tasks-from"):
        given = [*given, "--data", str(folder)]
    for name, value in defaults.items():
        if name not in given:
            given = [*given, name, value]
    assert says in refusal_line(capsys, *given)
    assert not (tmp_path / "out").exists()


def test_wrong_architecture_is_refused(capsys, tmp_path, checkpoint, folder):
    line = refusal_line(
        capsys, "--backbone", "tiny_vit", "--checkpoint", str(checkpoint), "--data",
        str(folder),
        "--out", str(tmp_path / "out"),
    )  # fmt: skip
    assert "0 of" in line and "another architecture" in line


def test_tasks_file_paths_are_relative_to_it(capsys, tmp_path, folder):
    (tmp_path / "tasks.toml").write_text(
        'tasks = ["knn", "depth"]\n[task_data]\nknn = "pets"\ndepth = "rooms"\n'
    )
    out = ["--backbone", "tiny_resnet", "--out", str(tmp_path / "out")]
    line = refusal_line(capsys, "--tasks-from", str(tmp_path / "tasks.toml"), *out)
    assert line.startswith("task depth: data='rooms': the folder does not exist")
    (tmp_path / "rooms").mkdir()
    line = refusal_line(capsys, "--tasks-from", str(tmp_path / "tasks.toml"), *out)
    assert line.startswith(f"task depth: data='{tmp_path / 'rooms'}': it takes train/")
    (tmp_path / "tasks.toml").write_text('task = ["knn"]\n')
    line = refusal_line(capsys, "--tasks-from", str(tmp_path / "tasks.toml"), *out)
    assert line.endswith("no setting 'task'; did you mean 'tasks'?")


def test_eval_prints_values_and_controls(capsys, tmp_path, checkpoint, folder):
    with pytest.raises(SystemExit) as stop:
        main(["eval", "--backbone", "tiny_resnet", "--checkpoint", str(checkpoint), "--side", "32",
              "--out", str(tmp_path / "out"), "--data", str(folder),
              "--tasks", "knn,jigsaw", "--bf16"])  # fmt: skip
    said = capsys.readouterr().out
    assert stop.value.code == 0
    assert said.startswith(f"checkpoint: {checkpoint}\n")
    assert "weights matched below 'backbone.'" in said
    result = json.loads((tmp_path / "out" / "eval.json").read_text())
    metrics = result["metrics"]
    assert result["machine"]["precision"] == "bf16-mixed"
    pair = [f"{metrics[key]:.1%}"[:-1] for key in ("jigsaw_3x3_piece", "jigsaw_3x3_piece_random")]
    row = next(line for line in said.splitlines() if line.startswith("jigsaw 3x3: patches"))
    assert row.split()[-3:] == [*pair, "11.1"]
    row = next(line for line in said.splitlines() if line.startswith("kNN (top-1)"))
    assert row.split()[-1] == "50.0"  # two classes of one size
    assert "random backbone" not in said and "most frequent" not in said


def test_models_are_ranked_on_one_page(capsys, tmp_path, checkpoint, folder, monkeypatch):
    zeros = {k: v * 0 for k, v in make_backbone("tiny_resnet", 32).state_dict().items()}
    torch.save(zeros, tmp_path / "zeros.pt")
    encoded: list[int] = []
    extract = FrozenBackbone.extract
    monkeypatch.setattr(
        FrozenBackbone, "extract", lambda me, x: encoded.append(len(x)) or extract(me, x)
    )
    command = ["eval", "--backbone", "tiny_resnet", "--checkpoint", str(tmp_path / "zeros.pt"),
               "--checkpoint", str(checkpoint), "--compare", "--side", "32",
               "--data", str(folder), "--tasks", "knn,linear",
               "--out", str(tmp_path / "out")]  # fmt: skip
    for _ in range(2):  # the second time all is read
        with pytest.raises(SystemExit) as stop:
            main(command)
        assert stop.value.code == 0
    assert encoded == [20, 4] * 3  # each image set once for each model and the control
    page = (tmp_path / "out" / "report.md").read_text()
    names = ["tiny_resnet-method", "tiny_resnet-zeros", "tiny_resnet-random"]
    rows = [line.split(" | ")[0][2:] for line in page.splitlines() if line.startswith("| tiny")]
    assert rows == names  # features of zeros know nothing; the control is last
    said = capsys.readouterr().out
    assert said.index(names[0] + " ") < said.index(names[1] + " ") and "semantic rank" in said
    assert "Ranking" in (tmp_path / "out" / "report.html").read_text()
    results = [json.loads((tmp_path / "out" / name / "eval.json").read_text()) for name in names]
    assert [result["settings"]["side"] for result in results] == [32] * 3
    line = refusal_line(capsys, *command[1:3], *command[1:], "--checkpoint", str(checkpoint))
    assert line.startswith("checkpoint: got 3 for 2 of --backbone, takes one for each, or several")


def test_published_model_uses_its_config(tmp_path, monkeypatch):
    loaded = []

    def build(name: str, side: int, channels: int, pretrained: bool = False) -> Any:
        loaded.append((side, pretrained))
        return make_backbone("tiny_resnet", side, channels)

    monkeypatch.setattr(backbones, "build_timm", build)
    given = {"backbone": "timm:test_vit", "pretrained": True, "side": None}
    small = Sources(load_data("demo", size=27), {})
    result = run(tmp_path / "a", small, **given)
    assert loaded == [(160, True), (160, False)]  # the second is the control of the tasks
    assert result["settings"]["mean"] == [0.5] * 3 and result["settings"]["side"] == 160
    assert "160 px, normalised by mean 0.5 0.5 0.5" in result["checkpoint"]["summary"]
    assert run(tmp_path / "a", small, **given) == result
    with pytest.raises(UsageError, match=r"out: .* was made with pretrained=True"):
        run(tmp_path / "a", small, backbone="timm:test_vit", side=160)
