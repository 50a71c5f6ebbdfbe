"""The contract, through solo-learn's own unmodified scripts."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

pytestmark = pytest.mark.timeout(1200)  # several runs of a script each

HERE = Path(__file__).parent
LINEAR = (
    "--config-name", "simclr.yaml", "++data.dataset=custom", "++data.format=image_folder",
    "++data.num_workers=0", "++optimizer.batch_size=16", "++max_epochs=1", "++accelerator=cpu",
    "++devices='1'", "++strategy=auto", "++precision=32", "++sync_batchnorm=false",
    "++wandb.enabled=false", "++auto_resume.enabled=false", "+enable_progress_bar=false",
)  # fmt: skip
WEIGHT_0 = (
    ("simclr", "resnet18"), ("byol", "resnet18"), ("mae", "vit_tiny"), ("dino", "resnet18"),
    ("swav", "multi_crop"), ("deepclusterv2", "resnet18"), ("wmse", "resnet18"),
)  # fmt: skip
OPTIONS = {
    "bf16": ("++precision=bf16-mixed",),
    "accumulated": ("++accumulate_grad_batches=2",),
    "clipped": ("++gradient_clip_val=0.1",),
    "sgd": ("++optimizer.name=sgd", "~optimizer.kwargs"),
    "contiguous": ("++performance.disable_channel_last=true",),
    "decay split": ("++optimizer.exclude_bias_n_norm_wd=true",),
    "two ranks": ("++devices='2'", "++strategy=ddp"),
}


@pytest.fixture(scope="module")
def runs(solo: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """One baseline and one SP run of simclr, for what only looks at them."""
    root = tmp_path_factory.mktemp("runs")
    return {
        "baseline": solo.pretrain(root / "baseline", "simclr"),
        "on": solo.pretrain(root / "on", "simclr", "resnet18", "++sp.enabled=true"),
        "zero": solo.pretrain(root / "zero", "simclr", "resnet18", "++sp.weight=0"),
    }


@pytest.mark.parametrize(("method", "kind"), WEIGHT_0, ids=["-".join(row) for row in WEIGHT_0])
def test_weight_0_equals_baseline_per_source(
    solo: Any, method: str, kind: str, tmp_path: Path
) -> None:
    workers = "++data.num_workers=2"
    baseline = solo.pretrain(tmp_path / "baseline", method, kind, workers)
    for source in ("view", "image"):
        sp = (f"++sp.source={source}", "++sp.weight=0")
        assert solo.pretrain(tmp_path / source, method, kind, workers, *sp).same(baseline)


@pytest.mark.slow
@pytest.mark.parametrize(("method", "kind"), (("simclr", "resnet18"), ("mae", "vit_tiny")))
def test_probe_leaves_the_baseline_as_it_is(
    solo: Any, method: str, kind: str, tmp_path: Path
) -> None:
    baseline = solo.pretrain(tmp_path / "baseline", method, kind)
    flags = ("++sp.enabled=false", "++sp.probe=true")
    probed = solo.pretrain(tmp_path / "probed", method, kind, *flags)
    assert probed.same(baseline) and "sp" not in probed.arguments
    names = {name for name in probed.metrics if name.startswith("train_spatial_probe_")}
    assert len(names) == 5 and not names & set(baseline.metrics)
    assert probed.saved["callbacks"]["SpatialProbeCallback"]["step"] == 2


def test_weight_0_is_baseline_with_drop_path(solo: Any, tmp_path: Path) -> None:
    drop = "+backbone.kwargs.drop_path_rate=0.2"
    baseline = solo.pretrain(tmp_path / "baseline", "simclr", "vit_tiny", drop)
    zero = solo.pretrain(tmp_path / "zero", "simclr", "vit_tiny", drop, "++sp.weight=0")
    assert zero.same(baseline)


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_trainer_options_meet_contract(solo: Any, options: tuple[str, ...], tmp_path: Path) -> None:
    def run(name: str, *more: str) -> Any:
        return solo.pretrain(tmp_path / name, "simclr", "resnet18", *options, *more)

    baseline, zero = run("baseline"), run("zero", "++sp.weight=0")
    assert zero.same(baseline)
    # Each of two ranks makes one step: a relative weight would be measured in it, and no more.
    relative = f"++sp.relative_weight={str('++strategy=ddp' not in options).lower()}"
    # In bfloat16 on a CPU, PyTorch leaves parts of the weight gradient of a 3x3 convolution of
    # stride 2 unset for images of 1x1, which crops of 16 px are to this ResNet's last stage.
    whole = ("++sp.weight=1", "++sp.warmup_fraction=0", "++sp.crop_size=32")
    on = run("on", "++sp.enabled=true", *whole, relative)
    # A clipped step of LARS's warm-up is too small for the 1.0 of a norm's weight to see.
    assert not [key for key in on.unmoved_parameters() if "norm" not in key]
    odd = [key for key, value in on.sp["sp"].items() if not value.isfinite().all()]
    assert odd == (["balance.log_ratio"] if relative.endswith("false") else [])  # not measured
    assert not on.same(baseline)


def test_image_source_trains(solo: Any, tmp_path: Path) -> None:
    on = solo.pretrain(tmp_path, "simclr", "resnet18", "+sp=image")
    assert on.arguments["sp"]["source"] == "image"
    assert on.arguments["sp"]["window"] == [0.5, 1.0]
    assert "4 crops of 16 px from the image" in on.output


def test_metrics_and_settings_are_saved(runs: Any) -> None:
    on = runs["on"]
    metrics = ("loss", "r2_dx", "r2_dy", "r2_scale", "weight")
    assert {f"train_sp_{name}" for name in metrics} <= on.metrics.keys()
    assert on.metrics["train_nce_loss_epoch"] > 0
    assert on.arguments["sp"]["enabled"] is True
    assert on.arguments["sp"]["crop_size"] == 16 and on.arguments["sp"]["head"] == "antisymmetric"
    assert "sp" not in runs["baseline"].arguments
    assert on.saved["state_dict"].keys() == runs["baseline"].state.keys()


def test_resumed_run_equals_uninterrupted(solo: Any, tmp_path: Path) -> None:
    """solo-learn's own randomness is pinned by epoch (``reseed``), for it saves no generator.

    Nor does it save where its EMA's momentum has come to (MomentumUpdater.cur_tau), so no method
    with a teacher resumes exactly there, with SP or without.
    """
    options = ("++max_epochs=2", "++checkpoint.keep_prev=true", "++sp.weight=1")
    paths = (HERE / "reseed",)
    whole = solo.pretrain(tmp_path / "a", "simclr", "resnet18", *options, paths=paths, epoch=1)
    (half,) = tmp_path.glob("a/**/*ep=0.ckpt")
    resume = f"++resume_from_checkpoint='{half}'"
    rest = solo.pretrain(
        tmp_path / "b", "simclr", "resnet18", *options, resume, paths=paths, epoch=1
    )
    assert whole.sp["step"] == rest.sp["step"] == 4
    assert rest.same(whole)
    for key, value in whole.sp["sp"].items():
        assert torch.equal(value, rest.sp["sp"][key])
    momentum = [run.saved["optimizer_states"][0]["state"] for run in (whole, rest)]
    assert momentum[0].keys() == momentum[1].keys()
    for key, state in momentum[0].items():
        assert torch.equal(state["momentum_buffer"], momentum[1][key]["momentum_buffer"])


def test_auto_resume_separates_sp_runs(solo: Any, tmp_path: Path) -> None:
    shared = (f"++checkpoint.dir={tmp_path}/shared", "++auto_resume.enabled=true")

    def output(*more: str) -> str:
        command = [*solo.command(tmp_path, "simclr", "resnet18"), *shared, *more]
        return solo.script("main_pretrain.py", command, tmp_path).stdout

    assert "Resuming" not in output()
    assert "Resuming" not in output("++sp.enabled=true")
    assert "Resuming" not in output("++sp.enabled=true", "++sp.weight=0.2")
    assert "Resuming" in output("++sp.weight=0.5")  # the default, said aloud
    assert "Resuming" in output("++sp.enabled=false")


def test_plain_checkpoint_resumes_with_sp(solo: Any, runs: Any, tmp_path: Path):
    plain = runs["baseline"].checkpoint
    more = ("++max_epochs=2", f"++resume_from_checkpoint='{plain}'", "++sp.enabled=true")
    assert solo.pretrain(tmp_path, "simclr", "resnet18", *more, epoch=1).sp["step"] == 2


@pytest.mark.parametrize(
    ("flag", "says"),
    [
        ("++sp.wieght=1", "sp.wieght: no such setting of SP; did you mean 'weight'?"),
        ("++sp.enable=true", "sp.enable: no such setting of SP; did you mean 'enabled'?"),
        ("++sp.source=photo", "sp.source: got 'photo', takes one of view, image, host_views"),
    ],
)
def test_bad_setting_fails_before_data_loads(
    solo: Any, flag: str, says: str, tmp_path: Path
) -> None:
    (empty := tmp_path / "empty").mkdir()  # reading it would fail with words of its own
    command = [*solo.command(tmp_path, "simclr", "resnet18"), f"++data.train_path={empty}", flag]
    ran = solo.script("main_pretrain.py", command, tmp_path, check=False)
    assert ran.returncode and says in ran.stderr and "Couldn't find any class" not in ran.stderr


def test_main_linear_loads_sp_checkpoint(solo: Any, runs: Any, tmp_path: Path) -> None:
    for name in ("baseline", "on"):
        folder = tmp_path / name
        command = [
            "--config-path", str(solo.root / "scripts/linear/imagenet-100"), *LINEAR,
            f"++data.train_path={solo.data}/train", f"++data.val_path={solo.data}/val",
            f"++checkpoint.dir={folder}",
            f"++pretrained_feature_extractor='{runs[name].checkpoint}'",
        ]  # fmt: skip
        solo.script("main_linear.py", command, folder)
        (saved,) = folder.glob("**/*.ckpt")
        state = torch.load(saved, map_location="cpu", weights_only=False)["state_dict"]
        probed = {key: value for key, value in state.items() if key.startswith("backbone.")}
        assert len(probed) == sum(key.startswith("backbone.") for key in runs[name].state)
        for key, value in probed.items():
            assert torch.equal(value, runs[name].state[key]), f"{key} was not taken"


def test_knn_and_umap_load_sp_checkpoint(solo: Any, runs: Any, tmp_path: Path) -> None:
    data = [
        "--dataset", "custom", "--train_data_path", f"{solo.data}/train",
        "--val_data_path", f"{solo.data}/val", "--num_workers", "0",
        "--batch_size", "20",  # of 40: main_knn.py drops what is left over of a shuffled epoch
    ]  # fmt: skip
    knn = ["--k", "2", "--temperature", "0.1", "--feature_type", "backbone", "projector"]
    knn += ["--distance_function", "cosine", "euclidean"]
    said = {}
    for name, run in runs.items():
        arguments = ["--pretrained_checkpoint_dir", str(run.checkpoint.parent), *data]
        ran = solo.script("main_knn.py", [*arguments, *knn], tmp_path / name, HERE / "no_gpu")
        said[name] = [line for line in ran.stdout.splitlines() if line.startswith("Result")]
        if importlib.util.find_spec("umap"):
            solo.script("main_umap.py", arguments, tmp_path / name, HERE / "no_gpu")
            assert (tmp_path / name / "im100_val_umap.pdf").stat().st_size > 1000
    assert len(said["on"]) == 4
    assert said["baseline"] == said["zero"]


def test_h5_data_work_with_both_sources(solo: Any, tmp_path: Path) -> None:
    import h5py

    path = tmp_path / "images.h5"
    with h5py.File(path, "w") as file:
        for folder in sorted((solo.data / "train").iterdir()):
            for image in sorted(folder.iterdir()):
                pixels = torch.frombuffer(bytearray(image.read_bytes()), dtype=torch.uint8)
                file[f"{folder.name}/{image.name}"] = pixels.numpy()
    h5 = (
        "++data.dataset=imagenet", "++data.format=h5", f"++data.train_path={path}",
        "++data.val_path=null",
    )  # fmt: skip
    for source in ("view", "image"):
        run = solo.pretrain(tmp_path / source, "simclr", "resnet18", *h5, f"++sp.source={source}")
        assert run.arguments["sp"]["source"] == source and run.sp["step"] == 2


def test_recipes_compose_on_solo_configs(solo: Any, tmp_path: Path) -> None:
    script = (HERE / "compose.py").read_text()
    ran = subprocess.run(
        [sys.executable, "-c", script, str(solo.root)],
        cwd=solo.root, capture_output=True, text=True, timeout=250,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr[-2000:]
    recipes = json.loads(ran.stdout.splitlines()[-1])
    assert len(recipes) >= 18
    for name, (baseline, recipe) in recipes.items():
        assert recipe["sp"]["enabled"] is True and recipe["name"].endswith("-sp"), name
        changed = {key for key in recipe if recipe[key] != baseline.get(key)}
        assert changed <= {"name", "sp", "data"}, name
        folder = name.split("/")[0].removesuffix("-multicrop")
        assert recipe["data"]["dataset"].startswith(folder.replace("-", "")), name
