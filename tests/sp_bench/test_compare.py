"""A small comparison from end to end: it continues after an interruption, and repeats nothing."""

from __future__ import annotations

import dataclasses
import io
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from sp_bench import run as module
from sp_bench import task_runner
from sp_bench.compare import compare
from sp_bench.config import Settings
from sp_bench.data import load_data
from sp_bench.data.dataset import Selection
from sp_bench.errors import UsageError
from sp_bench.frozen_backbone import FrozenBackbone
from sp_bench.pair_examples import predict_examples
from sp_bench.pretrain import new_method, short_training_note
from sp_bench.progress import Progress
from sp_bench.results import ARMS, Results
from sp_bench.tasks import Task, TaskContext
from torch import Tensor

from sp_plugin import SpatialPrediction, SPConfig
from sp_plugin.isolation import make_generator

SETTINGS = Settings(
    limit=40,
    epochs=2,
    side=32,
    batch_size=8,
    tasks=("knn",),
    sp={"weight": 1.0, "warmup_fraction": 0.0},
)


class Killed(Exception):
    """An interruption, as by a signal."""


class KillDuringTraining(Progress):
    """Interrupts the run of one arm in its second epoch."""

    def __init__(self, arm: str) -> None:
        super().__init__(Console(quiet=True))
        self.doomed = arm

    def started(self, arm: str, seed: int) -> None:
        super().started(arm, seed)
        self.arm = arm

    def step(self, epoch: int, share: float) -> None:
        if self.arm == self.doomed and epoch == 1:
            raise Killed


class KillBeforeEvaluation(Progress):
    """Interrupts the run of one arm after its pre-training."""

    def __init__(self, arm: str) -> None:
        super().__init__(Console(quiet=True))
        self.doomed = arm

    def started(self, arm: str, seed: int) -> None:
        super().started(arm, seed)
        self.arm = arm

    def evaluating(self) -> None:
        if self.arm == self.doomed:
            raise Killed


def quiet() -> Progress:
    return Progress(Console(quiet=True))


def final(out: Path, run: str) -> dict[str, Any]:
    saved = torch.load(out / run / "final.ckpt", weights_only=True)
    return {key: value.clone() for key, value in saved["state_dict"].items()}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Results]:
    out = tmp_path_factory.mktemp("runs") / "first"
    return out, compare(SETTINGS, [0, 1], out, quiet())


def test_comparison_writes_all_results(made: tuple[Path, Results]) -> None:
    out, results = made
    assert repr(Results.load(out / "results.json")) == repr(results)  # NaN equals NaN in it
    assert {(run.arm, run.seed) for run in results.runs} == {
        (arm, seed) for arm in ("baseline", "sp") for seed in (0, 1)
    }
    row, _ = results.rows  # kNN, and chance
    by_arm = {
        arm: [run.metrics["knn"] for run in results.runs if run.arm == arm]
        for arm in ("baseline", "sp")
    }
    assert row.difference == pytest.approx(sum(by_arm["sp"]) / 2 - sum(by_arm["baseline"]) / 2)
    assert 'src="data:image/png;base64' in (out / "report.html").read_text()
    for run in results.runs:
        assert (out / run.checkpoint).exists()
        assert [point["epoch"] for point in run.curve] == [0, 1]
        assert all(("sp_loss" in point) == (run.arm == "sp") for point in run.curve)
        assert run.images_seen == 2 * 40


def test_arms_differ_only_in_sp(made: tuple[Path, Results]) -> None:
    out, _ = made
    a, b = final(out, "seed0-baseline"), final(out, "seed0-sp")
    assert a.keys() == b.keys()
    assert any(not torch.equal(a[key], b[key]) for key in a)
    first, second = new_method(SETTINGS, 0).state_dict(), new_method(SETTINGS, 0).state_dict()
    assert all(torch.equal(first[key], second[key]) for key in first)
    other = new_method(SETTINGS, 1).state_dict()
    assert any(not torch.equal(first[key], other[key]) for key in first)


def test_finished_comparison_is_not_rerun(
    made: tuple[Path, Results], monkeypatch: pytest.MonkeyPatch
) -> None:
    out, results = made

    def refuse(*_: Any) -> None:
        raise AssertionError("a finished run was made again")

    monkeypatch.setattr(module, "pretrain", refuse)
    assert compare(SETTINGS, [0, 1], out, quiet()).runs == results.runs


def test_resumed_run_equals_uninterrupted(made: tuple[Path, Results], tmp_path: Path) -> None:
    out, results = made
    again = tmp_path / "again"

    for arm in ARMS:  # the second time, the baseline goes on and ends
        with pytest.raises(Killed):
            compare(SETTINGS, [0], again, KillDuringTraining(arm))
        assert (again / f"seed0-{arm}" / "epoch00000.ckpt").exists()
    resumed = compare(SETTINGS, [0], again, quiet())
    for run in ("seed0-baseline", "seed0-sp"):
        theirs, ours = final(out, run), final(again, run)
        assert [key for key in theirs if not torch.equal(theirs[key], ours[key])] == []
    strip = [{**vars(run), "seconds": 0} for run in results.runs if run.seed == 0]
    assert [{**vars(run), "seconds": 0} for run in resumed.runs] == strip


@pytest.mark.slow
def test_killed_evaluation_does_not_retrain(
    made: tuple[Path, Results], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, results = made
    again = tmp_path / "again"
    for arm in ARMS:
        with pytest.raises(Killed):
            compare(SETTINGS, [0], again, KillBeforeEvaluation(arm))
    left = {arm: (again / f"seed0-{arm}" / "final.ckpt").read_bytes() for arm in ARMS}

    def refuse(*_: Any) -> None:
        raise AssertionError("a step was made again")

    progress = quiet()
    monkeypatch.setattr(progress, "step", refuse)
    resumed = compare(SETTINGS, [0], again, progress)
    assert {arm: (again / f"seed0-{arm}" / "final.ckpt").read_bytes() for arm in ARMS} == left
    strip = [{**vars(run), "seconds": 0} for run in results.runs if run.seed == 0]
    assert [{**vars(run), "seconds": 0} for run in resumed.runs] == strip
    assert all(run.seconds > 0 for run in resumed.runs)
    assert (again / "seed0-sp" / "examples.pt").exists()


def test_stopped_evaluation_resumes_at_task(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = dataclasses.replace(SETTINGS, tasks=("knn", "linear"))
    task_names: list[str] = []
    measure = task_runner.run_task

    def stop_at_first_linear(task: Task, subject: TaskContext) -> dict[str, float]:
        task_names.append(task.name)
        if task_names == ["knn", "linear"]:
            raise Killed
        return measure(task, subject)

    monkeypatch.setattr(task_runner, "run_task", stop_at_first_linear)
    with pytest.raises(Killed):
        compare(settings, [0], tmp_path, quiet())
    stored = json.loads((tmp_path / "seed0-baseline" / "tasks.json").read_text())
    first = compare(settings, [0], tmp_path, quiet()).runs[0]
    # The last two are those of the other arm.
    assert task_names == ["knn", "linear", "linear", "knn", "linear"]
    assert list(first.metrics) == ["knn", "knn_chance", "linear", "linear_chance"]
    assert first.metrics["knn"] == stored["knn"]["metrics"]["knn"]


@pytest.mark.slow
def test_metrics_belong_to_their_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(Killed):
        compare(SETTINGS, [0], tmp_path, KillBeforeEvaluation("sp"))
    (tmp_path / "seed0-sp" / "final.ckpt").write_bytes(b"PK cut off")
    (tmp_path / "seed0-sp" / "tasks.json").write_text('{"knn": {"metrics": {"knn": 9.0}}}')
    *_, sp = compare(SETTINGS, [0], tmp_path, quiet()).runs
    assert sp.metrics["knn"] <= 1


def test_broken_checkpoint_uses_previous_one(tmp_path: Path) -> None:
    from sp_bench.pretrain import _last_whole

    torch.save({"epoch": 0}, tmp_path / "epoch00000.ckpt")
    (tmp_path / "epoch00001.ckpt").write_bytes(b"PK cut off")
    assert _last_whole(tmp_path) == tmp_path / "epoch00000.ckpt"
    (tmp_path / "final.ckpt").write_bytes(b"PK cut off")
    assert _last_whole(tmp_path) == tmp_path / "epoch00000.ckpt"
    torch.save({"epoch": 2}, tmp_path / "final.ckpt")
    assert _last_whole(tmp_path) == tmp_path / "final.ckpt"


def test_short_training_has_a_note(made: tuple[Path, Results]) -> None:
    printed = io.StringIO()
    compare(SETTINGS, [0, 1], made[0], Progress(Console(file=printed)))
    assert "epochs: 2 are 10 steps, and in 4 of them SP only measures" in printed.getvalue()
    longer = dataclasses.replace(SETTINGS, epochs=4)  # 5 of 20 steps
    assert short_training_note(longer, num_images=40) == ""
    fixed = dataclasses.replace(SETTINGS, sp={"relative_weight": False})
    assert short_training_note(fixed, num_images=40) == ""


def test_other_settings_are_refused_by_name(made: tuple[Path, Results]) -> None:
    out, _ = made
    other = Settings(**{**vars(SETTINGS), "epochs": 3})
    with pytest.raises(UsageError) as error:
        compare(other, [0], out, quiet())
    assert str(error.value) == (
        f"out: {out} was made with epochs=2, now it is 3; give another --out"
    )


def test_a_folder_in_use_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(UsageError, match="in use for something else"):
        compare(SETTINGS, [0], tmp_path, quiet())
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_seeds_can_be_added(made: tuple[Path, Results], tmp_path: Path) -> None:
    out, _ = made
    copy = tmp_path / "copy"
    shutil.copytree(out, copy)
    results = compare(SETTINGS, [0, 1, 2], copy, quiet())
    assert results.rows[0].seeds == 3
    assert json.loads((copy / "results.json").read_text())["settings"]["seeds"] == [0, 1, 2]


@pytest.mark.slow
def test_longer_baseline_matches_sp_flops(tmp_path: Path) -> None:
    sp = {**SETTINGS.sp, "num_crops": 2, "sample_fraction": 1.0}
    settings = dataclasses.replace(SETTINGS, longer=True, epochs=2, sp=sp)
    results = compare(settings, [0], tmp_path / "out", quiet())
    baseline, sp, longer = results.runs
    assert [run.arm for run in results.runs] == ["baseline", "sp", "longer"]
    # Two views of 32 px and two crops of 16: a quarter of the pixels, and a little for the head.
    assert 1.1 < sp.flops / baseline.flops < 1.5
    assert len(longer.curve) == 3  # 2.2 to 3 epochs, in whole ones
    row, _ = results.longer  # and its chance
    assert row.metric.key == "knn"
    assert row.difference == pytest.approx(sp.metrics["knn"] - longer.metrics["knn"])
    assert Results.load(tmp_path / "out" / "results.json").longer[0].sp == row.sp


def test_only_forward_flops_are_counted(made: tuple[Path, Results]) -> None:
    from sp_bench.flops import forward_flops

    _, results = made
    run = results.runs[0]
    assert run.arm == "baseline"
    backbone = new_method(SETTINGS, 0).backbone
    views = 2 * run.images_seen * forward_flops(backbone, SETTINGS.side)["forward_flops"]
    assert views < run.flops < 1.2 * views  # the rest is the projector


@pytest.mark.parametrize("sp", ({"num_crops": 2}, {"num_crops": 3}, {"sample_fraction": 0.3}))
def test_examples_are_first_pair_of_crops(sp: dict[str, Any]) -> None:
    """In each image, also of a run that trained on a part of each batch."""
    settings = dataclasses.replace(SETTINGS, sp=sp)
    method, splits = new_method(settings, seed=0), load_data(settings.data, limit=settings.limit)
    count = 4  # fewer than are shown at most
    splits = dataclasses.replace(splits, test=Selection(splits.test, range(count)))
    config = SPConfig.from_dict(settings.sp).resolve(settings.side)
    trained = SpatialPrediction.from_backbone(method.backbone, None, config)
    made = predict_examples(settings, method, trained, splits)
    boxes = trained.sample_crops(
        torch.zeros(count, 3, settings.side, settings.side), make_generator(0, 0, 0)
    )[0]
    assert torch.equal(made.a, boxes[0]) and torch.equal(made.b, boxes[1])


def test_examples_have_answers_before() -> None:
    """Those of the weights that the run began with, whatever was trained since."""
    splits = load_data(SETTINGS.data, limit=SETTINGS.limit)
    config = SPConfig.from_dict(SETTINGS.sp, seed=3).resolve(SETTINGS.side)
    made = []
    for scale in (1.0, 1.5):
        method = new_method(SETTINGS, seed=3)
        trained = SpatialPrediction.from_backbone(method.backbone, None, config)
        with torch.no_grad():
            for parameter in trained.head.parameters():
                parameter.mul_(scale)
        made.append(predict_examples(SETTINGS, method, trained, splits))
    same, other = made
    assert same.untrained is not None and same.answers is not None and other.answers is not None
    assert torch.equal(same.untrained, same.predicted)
    assert torch.equal(same.untrained, other.untrained)
    assert not torch.equal(other.untrained, other.predicted)
    assert torch.equal(other.answers[0], same.answers[0])
    truth = trained.targets.encode(same.a, same.b)
    every = len(same.answers[0]) // len(truth)
    torch.testing.assert_close(same.answers[0][::every][: len(truth)], truth)


def test_answers_of_a_run_are_drawn(made: tuple[Path, Results], tmp_path: Path) -> None:
    out, _ = made
    for folder in (out, out / "seed0-sp"):
        module.show_answers(folder, tmp_path / f"{folder.name}.png")
    first, second = (file.read_bytes() for file in tmp_path.iterdir())
    assert first == second
    with pytest.raises(UsageError, match=r"seed0-baseline has no examples.pt; takes a finished"):
        module.show_answers(out / "seed0-baseline", tmp_path / "x.png")


def test_random_backbone_is_encoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For both arms of a seed."""
    encoded: list[FrozenBackbone] = []
    extract = FrozenBackbone.extract

    def record(self: FrozenBackbone, images: Tensor) -> Tensor:
        encoded.append(self)
        return extract(self, images)

    monkeypatch.setattr(FrozenBackbone, "extract", record)
    settings = dataclasses.replace(SETTINGS, tasks=("rank",), epochs=1)
    results = compare(settings, [0, 1], tmp_path / "out", quiet())
    assert len(encoded) == len(set(encoded)) == 2 * 3
    random = {(run.seed, run.metrics["rank_rankme_random"]) for run in results.runs}
    assert len(random) == 2


def test_validation_refuses_own_test_images(tmp_path: Path) -> None:
    changes = {"validation": True, "tasks": ("pair",), "task_data": {"pair": "demo"}}
    settings = Settings(**{**vars(SETTINGS), **changes})
    with pytest.raises(UsageError, match="validation: pair=demo would be evaluated"):
        compare(settings, [0], tmp_path / "x", quiet())
