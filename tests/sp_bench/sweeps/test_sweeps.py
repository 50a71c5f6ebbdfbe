"""Suites: a job is the same run as in `compare`, is made once, and is collected completely."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from rich.console import Console
from sp_bench import task_data
from sp_bench.compare import compare
from sp_bench.config import METHOD_NAMES, Settings
from sp_bench.data import load_data
from sp_bench.errors import UsageError
from sp_bench.method_evaluation import evaluate_method
from sp_bench.progress import Progress
from sp_bench.run import load_images
from sp_bench.sweeps import compute_matched, job
from sp_bench.sweeps.collect import Evidence, collect
from sp_bench.sweeps.compute_matched import count_matched_epochs, matched_epochs, record_few_steps
from sp_bench.sweeps.job import job_settings
from sp_bench.sweeps.launch import bundled_suites
from sp_bench.tasks import find_tasks

from sp_plugin import SPConfig

BENCH = Path(__file__).parents[3] / "configs" / "bench"
SMALL = ["limit=40", "epochs=2", "side=32", "batch_size=8", "tasks=[knn]", "precision=32-true"]


def run(sp_bench: Any, suite: str, out: Path, *more: str) -> None:
    sp_bench("suite", str(BENCH / f"{suite}.yaml"), f"out={out}", *more)


@pytest.fixture(scope="module")
def sweep_dir(sp_bench: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("suite")
    arms = "arm=baseline,sp,longer,relative_location"
    run(sp_bench, "quick", out, *SMALL, "seed=0", "method=simclr", arms, "+sp.weight=1")
    return out


def weights(folder: Path) -> dict[str, torch.Tensor]:
    saved = torch.load(folder / "final.ckpt", weights_only=True)
    return dict(saved["state_dict"])


@pytest.mark.slow
def test_sweep_runs_match_compare(sweep_dir: Path, tmp_path: Path) -> None:
    settings = Settings(
        limit=40, epochs=2, side=32, batch_size=8, tasks=("knn",), sp={"weight": 1.0}
    )
    results = compare(settings, [0], tmp_path / "runs", Progress(Console(quiet=True)))
    for made_there in results.runs:
        name = f"seed0-{made_there.arm}"
        here = json.loads((sweep_dir / "simclr" / name / "run.json").read_text())
        assert here["metrics"] == made_there.metrics
        ours, theirs = weights(sweep_dir / "simclr" / name), weights(tmp_path / "runs" / name)
        assert [key for key in theirs if not torch.equal(ours[key], theirs[key])] == []


def test_finished_run_is_not_repeated(sp_bench: Any, sweep_dir: Path) -> None:
    path = sweep_dir / "simclr" / "seed0-baseline" / "final.ckpt"
    before = path.stat().st_mtime_ns
    run(sp_bench, "quick", sweep_dir, *SMALL, "seed=0", "method=simclr", "arm=baseline")
    assert path.stat().st_mtime_ns == before


def test_arms_of_a_seed_share_the_control(
    sp_bench: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded, random = [], []

    def load(*args: Any) -> Any:
        loaded.append(load_images(*args))
        return loaded[-1]

    def evaluate(*args: Any) -> Any:
        random.append(args[-1])
        return evaluate_method(*args)

    monkeypatch.setattr("sp_bench.sweeps.job.load_images", load)
    monkeypatch.setattr("sp_bench.run.evaluate_method", evaluate)
    small = [*SMALL, "limit=41", "epochs=1"]  # 41: no other test leaves these images
    run(sp_bench, "quick", tmp_path, *small, "seed=0,1", "method=simclr", "arm=baseline,sp")
    assert len(loaded) == 1
    assert random[0] is random[1] and random[2] is random[3]
    one, two = (next(random[i].backbone.parameters()) for i in (0, 2))
    assert not torch.equal(one, two)
    other = ["limit=42", "seed=0", "method=simclr", "arm=baseline"]
    run(sp_bench, "quick", tmp_path / "other", *small, *other)
    assert len(loaded) == 2


def test_longer_baseline_matches_sp_compute(sweep_dir: Path) -> None:
    runs = {
        arm: json.loads((sweep_dir / "simclr" / f"seed0-{arm}" / "run.json").read_text())
        for arm in ("baseline", "sp", "longer")
    }
    epochs = runs["longer"]["images_seen"] / runs["baseline"]["images_seen"] * 2
    assert epochs == math.ceil(2 * runs["sp"]["flops"] / runs["baseline"]["flops"])
    assert epochs > 2


def test_collected_evidence_is_complete(sweep_dir: Path, tmp_path: Path) -> None:
    (path,) = collect(sweep_dir, tmp_path, "quick-40")
    evidence = Evidence.load(path)
    assert path.name == "simclr.json"
    assert (evidence.suite, evidence.command) == (
        "quick-40",
        "sp-bench suite configs/bench/quick.yaml",
    )
    assert list(evidence.arms) == ["baseline", "longer", "relative_location", "sp"]
    assert evidence.arms["baseline"]["sp"] == {}
    assert evidence.arms["sp"]["sp"]["weight"] == 1.0
    assert evidence.arms["relative_location"]["pretext"] == "relative_location"
    assert evidence.arms["longer"]["epochs"] > evidence.arms["baseline"]["epochs"] == 2
    saved = json.loads((sweep_dir / "simclr" / "seed0-sp" / "run.json").read_text())
    (kept,) = (run for run in evidence.runs if run.arm == "sp")
    assert kept.metrics["knn"] == pytest.approx(saved["metrics"]["knn"], abs=1e-5)
    assert str(sweep_dir) not in path.read_text()


def test_mixed_settings_are_refused(sweep_dir: Path, tmp_path: Path) -> None:
    out = tmp_path / "mixed"
    shutil.copytree(sweep_dir, out)
    origin = out / "simclr" / "seed0-sp" / "origin.json"
    content = json.loads(origin.read_text())
    content["settings"]["batch_size"] = 16
    origin.write_text(json.dumps(content))
    with pytest.raises(UsageError, match="runs of simclr differ in settings"):
        collect(out, tmp_path, "quick")


def test_parts_collect_like_the_whole(sweep_dir: Path, tmp_path: Path) -> None:
    (whole,) = collect(sweep_dir, tmp_path / "whole", "quick")
    for arm in ("sp", "longer", "baseline", "relative_location", "sp"):  # one comes twice
        part = tmp_path / "part" / "simclr" / f"seed0-{arm}"
        shutil.copytree(sweep_dir / "simclr" / part.name, part)
        (path,) = collect(tmp_path / "part", tmp_path / "kept", "quick")
        shutil.rmtree(part)
    assert path.read_text() == whole.read_text()


def test_collected_run_is_not_overwritten(sweep_dir: Path, tmp_path: Path) -> None:
    (path,) = collect(sweep_dir, tmp_path, "quick")
    kept = json.loads(path.read_text())
    kept["runs"][0]["metrics"]["knn"] += 0.01
    path.write_text(json.dumps(kept))
    with pytest.raises(UsageError, match="has other metrics of baseline, seed 0"):
        collect(sweep_dir, tmp_path, "quick")
    kept["settings"]["batch_size"] = 16
    path.write_text(json.dumps(kept))
    with pytest.raises(UsageError, match="simclr differ in settings"):
        collect(sweep_dir, tmp_path, "quick")
    assert json.loads(path.read_text()) == kept


def test_run_with_nan_is_collected_twice(sweep_dir: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(sweep_dir, out)
    path = out / "simclr" / "seed0-baseline" / "run.json"
    kept = json.loads(path.read_text())
    kept["metrics"]["knn"] = math.nan
    path.write_text(json.dumps(kept))
    (first,) = collect(out, tmp_path / "kept", "quick")
    before = first.read_text()
    (again,) = collect(out, tmp_path / "kept", "quick")
    assert again.read_text() == before
    with pytest.raises(UsageError, match="has other metrics of baseline, seed 0"):
        collect(sweep_dir, tmp_path / "kept", "quick")  # NaN is not a number


def test_teacher_has_no_backward_to_match(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pass costs 3 with its backward: SP's too, but of MoCo's two the teacher's costs 1."""
    images = load_data("demo", size=40).train
    settings = Settings(
        method="moco", epochs=1000, side=32, batch_size=16, sp={"sample_fraction": 1}
    )
    records = {arm: record_few_steps(settings, arm, images) for arm in ("baseline", "sp")}
    monkeypatch.setattr(compute_matched, "record_few_steps", lambda _, arm, __: records[arm])
    by_forward = matched_epochs(1000, *(record.flops for record in records.values())) - 1000
    more_epochs = count_matched_epochs(settings, images) - 1000
    assert more_epochs == pytest.approx(by_forward * 3 / ((3 + 1) / 2), rel=0.1)


def test_checkpoints_are_only_evaluated(
    sp_bench: Any, sweep_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [f"checkpoints={sweep_dir}", "seed=0", "method=simclr", "arm=sp", "+sp.weight=1"]
    other = [word for word in SMALL if not word.startswith("tasks=")]
    run(sp_bench, "quick", tmp_path / "a", *other, "tasks=[rank]", *words)
    theirs, ours = (folder / "simclr" / "seed0-sp" for folder in (sweep_dir, tmp_path / "a"))
    before, after = (json.loads((folder / "run.json").read_text()) for folder in (theirs, ours))
    assert (ours / "final.ckpt").read_bytes() == (theirs / "final.ckpt").read_bytes()
    assert "knn" not in after["metrics"] and "rank_rankme" in after["metrics"]
    trained = ("curve", "seconds", "images_seen", "flops")
    assert [after[key] for key in trained] == [before[key] for key in trained]
    for name, changed, message in (
        ("b", [*words, "learning_rate=1"], "was trained with learning_rate=0.002, now it is 1"),
        ("c", [f"checkpoints={tmp_path}", *words[1:]], "checkpoints: no finished run in"),
    ):
        with pytest.raises(SystemExit):
            run(sp_bench, "quick", tmp_path / name, *other, "tasks=[rank]", *changed)
        assert message in capsys.readouterr().err


def test_longer_checkpoint_is_not_trained_on(
    sp_bench: Any, sweep_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs, ours = (folder / "simclr" / "seed0-longer" for folder in (sweep_dir, tmp_path))
    before = json.loads((theirs / "run.json").read_text())
    epochs = len(before["curve"])
    monkeypatch.setattr(job, "count_matched_epochs", lambda *_: epochs + 1)
    words = ["seed=0", "method=simclr", "arm=longer", "+sp.weight=1"]
    run(sp_bench, "quick", tmp_path, *SMALL, f"checkpoints={sweep_dir}", *words)
    after = json.loads((ours / "run.json").read_text())
    for key in ("curve", "images_seen", "flops", "metrics"):
        assert after[key] == before[key]
    assert json.loads((ours / "origin.json").read_text())["settings"]["epochs"] == epochs


def test_collect_without_runs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no finished run in"):
        collect(tmp_path, tmp_path, "quick")


def test_misspelled_setting_is_refused(
    sp_bench: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        run(sp_bench, "quick", tmp_path, "+epoch=3", "seed=0", "method=simclr", "arm=sp")
    assert stop.value.code == 2
    expected = "sp-bench: epoch: no such setting of a suite; did you mean 'epochs'?"
    assert expected in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "hint"),
    [
        ("sceens", "did you mean 'scenes'?"),
        ("configs/bench/quick.yaml", "did you mean 'quick'?"),  # from another folder
        ("common", "known are cifar, finals, imagenet"),
    ],
)
def test_unknown_suite_names_the_nearest(
    sp_bench: Any,
    given: str,
    hint: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        sp_bench("suite", given)
    assert stop.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"suite: no file {given}" in line
    assert hint in line


@pytest.mark.parametrize("suite", bundled_suites())
def test_each_suite_starts_by_its_name(
    sp_bench: Any,
    suite: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    # Without out=, as README and docs write it. A misspelled setting stops the first job.
    monkeypatch.chdir(tmp_path)
    one_job = ["seed=0", "method=simclr", "arm=baseline"]
    external = suite.startswith("imagenet")
    extra = ["host.checkout=nowhere"] if external else ["+epoch=3"]
    with pytest.raises(SystemExit):
        sp_bench("suite", suite, *one_job, *extra)
    expected = "in nowhere: No such file" if external else "epoch: no such setting of a suite"
    assert expected in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]
    assert [path.name for path in (tmp_path / "runs").iterdir()] == [suite]


def test_missing_checkout_is_one_line_error(
    sp_bench: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        sp_bench("suite", "imagenet100", "seed=0", "method=simclr", "arm=baseline")
    assert stop.value.code == 2
    line = "sp-bench: host.checkout: got nothing, takes a value: host.checkout=VALUE"
    assert line in capsys.readouterr().err.splitlines()


def test_default_folder_has_name_of_file(
    sp_bench: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "it's a, folder=x"
    shutil.copytree(BENCH, folder)
    monkeypatch.chdir(folder)
    arguments = [*SMALL, "epochs=1", "seed=0", "method=simclr", "arm=baseline"]
    sp_bench("suite", "quick.yaml", *arguments)
    assert (folder / "runs/quick/simclr/seed0-baseline/run.json").is_file()


def composed(suite: str, *overrides: str) -> Any:
    names = [f"+suite_name={suite}", f"+configs_dir={BENCH.parent}"]
    with initialize_config_dir(str(BENCH), version_base="1.3"):
        return OmegaConf.to_container(compose(suite, [*names, *overrides]), resolve=True)


def test_settings_follow_method_and_limit() -> None:
    backbones = {m: job_settings(composed("scenes", f"method={m}")).backbone for m in METHOD_NAMES}
    vits = {method for method, backbone in backbones.items() if backbone == "tiny_vit"}
    assert vits == {"mae", "dino"} and set(backbones.values()) == {"tiny_vit", "tiny_resnet"}
    small = [composed("small", f"limit={limit}") for limit in (1000, 5000)]
    assert [each["epochs"] for each in small] == [400, 120]
    assert small[0]["out"] == "runs/small/small-1000"


def test_arms_do_not_follow_new_defaults() -> None:
    # Trials and what is in SP's place see all images, whatever the default of SP is.
    def sp(suite: str, arm: str) -> dict[str, Any]:
        return job_settings(composed(suite, f"arm={arm}")).sp

    published = Evidence.load(BENCH.parents[1] / "benchmarks/results/tune/simclr.json").arms
    assert sp("scenes", "sp-full") == SPConfig.from_dict(published["r0.5-k4"]["sp"]).asdict()
    assert sp("tune", "trial/r0.5-k4") == sp("scenes", "sp-full")
    assert sp("tune-cost", "trial/f0.25")["sample_fraction"] == 0.25
    for arm in ("augself", "relative_location"):
        assert composed("scenes", f"arm={arm}")["sp"] == {"sample_fraction": 1}
    assert sp("scenes", "unsupervised") == sp("scenes", "sp") == SPConfig().asdict()


def test_one_gpu_takes_unlabelled_images(monkeypatch: pytest.MonkeyPatch) -> None:
    requested: list[bool] = []
    monkeypatch.setattr(
        task_data, "load_data", lambda _, labelled, **__: requested.append(labelled)
    )
    config = composed("one_gpu")
    task_data.load_main(config["data"], find_tasks(config["tasks"]), config["task_data"])
    assert requested == [False]


def test_baseline_settings_ignore_sp() -> None:
    config = {"arm": "baseline", "seed": 0, "data": "demo", "sp": {"weight": 5}}
    assert job_settings(config) == job_settings({**config, "sp": {}})
    assert job_settings({**config, "arm": "sp"}).sp["weight"] == 5


@pytest.mark.parametrize("trial", sorted((BENCH / "arm" / "trial").glob("*.yaml")))
def test_trial_states_its_prediction(trial: Path) -> None:
    config: Any = OmegaConf.to_container(OmegaConf.load(trial))
    assert config["arm"] == trial.stem
    assert len(config["prediction"].split()) > 3
    job_settings({**config, "seed": 0})
