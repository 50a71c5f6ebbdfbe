"""The commands on images of 1, 4, 6 and 13 channels, from real files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sp_bench.cli import main
from sp_bench.data import load_data
from sp_bench.data.channel_stats import measure_stats
from sp_bench.task_runner import read_examples

Save = Callable[[Path, np.ndarray], None]


def save_tiff(path: Path, bands: np.ndarray) -> None:
    tifffile = pytest.importorskip("tifffile")
    tifffile.imwrite(path.with_suffix(".tif"), bands, photometric="minisblack")


def save_npz(path: Path, bands: np.ndarray) -> None:
    np.savez(path.with_suffix(".npz"), image=np.moveaxis(bands, 0, -1))


KINDS: dict[str, tuple[int, Any, Save]] = {
    "1-png": (1, np.uint8, lambda p, b: Image.fromarray(b[0]).save(p.with_suffix(".png"))),
    "4-tiff": (4, np.uint8, save_tiff),
    "6-npz": (6, np.float32, save_npz),
    "13-npy": (13, np.uint16, lambda path, bands: np.save(path.with_suffix(".npy"), bands)),
}


def make_bands(folder: Path, name: str, height: int = 20, width: int = 28) -> Path:
    """Two classes of 10 images, wider than high; the second class is lighter."""
    channels, dtype, save = KINDS[name]
    rng = np.random.default_rng(0)
    for label in range(2):
        (folder / f"class{label}").mkdir(parents=True)
        for i in range(10):
            bands = rng.integers(0, 120, (channels, height, width)) + 100 * label
            save(folder / f"class{label}" / str(i), bands.astype(dtype))
    return folder


def sp_bench(*words: object) -> None:
    try:
        main([str(word) for word in words])
    except SystemExit as stop:
        assert not stop.code


def error_of(capsys: Any, *words: object) -> str:
    with pytest.raises(SystemExit) as stop:
        main([str(word) for word in words])
    said = capsys.readouterr().err
    assert stop.value.code == 2 and said.count("\n") == 1
    return said


@pytest.fixture(scope="module")
def bands13(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bands(tmp_path_factory.mktemp("data") / "bands", "13-npy")


@pytest.fixture(scope="module")
def compared(bands13: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A comparison on 13 channels with weight 0, and what it printed."""
    out = tmp_path_factory.mktemp("runs") / "compared"
    with pytest.MonkeyPatch.context() as patch:
        lines: list[str] = []
        patch.setattr("sp_bench.progress.Progress.note", lambda _, line: lines.append(line))
        sp_bench(
            *("compare", "--data", bands13, "--out", out, "--seeds", 0, "--epochs", 1),
            *("--batch-size", 8, "--side", 16, "--tasks", "knn,robustness,jigsaw", "--workers", 1),
            *("--precision", "32-true", "--sp", "weight=0", "--sp", "num_crops=2"),
            *("--rgb", 5, 0, 12),
        )
    return out, "\n".join(lines)


@pytest.mark.parametrize("name", KINDS)
def test_show_draws_any_channels(name, tmp_path):
    data = make_bands(tmp_path / "data", name)
    options = ["--side", 16, "--count", 2, "--out", tmp_path / "pairs.png"]
    sp_bench("show", "--data", data, *options)
    first = np.asarray(Image.open(tmp_path / "pairs.png"))
    if KINDS[name][0] > 1:
        sp_bench("show", "--data", data, *options, "--rgb", 0, 0, 1)
        assert not np.array_equal(first, np.asarray(Image.open(tmp_path / "pairs.png")))


def test_weight_0_equals_baseline(compared):
    out, _ = compared
    baseline, sp = (
        torch.load(out / f"seed0-{arm}" / "final.ckpt", weights_only=True)["state_dict"]
        for arm in ("baseline", "sp")
    )
    assert baseline.keys() == sp.keys()
    assert all(torch.equal(value, sp[key]) for key, value in baseline.items())
    assert next(value for value in baseline.values() if value.ndim == 4).shape[1] == 13
    runs = json.loads((out / "results.json").read_text())["runs"]
    assert runs[0]["metrics"]["knn"] == runs[1]["metrics"]["knn"]


def test_statistics_are_of_training_images(compared, bands13):
    out, said = compared
    results = json.loads((out / "results.json").read_text())
    splits = load_data(str(bands13))
    expected, of_test = (measure_stats(part, 13) for part in (splits.train, splits.test))
    assert tuple(results["settings"]["mean"]) == expected.mean != of_test.mean
    assert tuple(results["settings"]["std"]) == expected.std
    assert results["data"]["images"] == "13 channels of uint16"
    assert "13 channels of uint16; mean and std of each channel, measured on the training" in said
    assert f"{expected.mean[0]:.4g} " in said


def test_tasks_on_rgb_say_why_not(compared):
    out, _ = compared
    run = json.loads((out / "results.json").read_text())["runs"][0]
    assert np.isnan(run["metrics"]["robustness_v2"]) and run["metrics"]["knn"] >= 0


def test_examples_show_the_chosen_channels(compared, bands13):
    out, _ = compared
    pairs = torch.load(out / "seed0-sp" / "examples.pt", weights_only=True)["images"]
    jigsaws = read_examples(out / "seed0-sp")["jigsaw"]["2x2"]
    for drawn, side in ((pairs, 96), (jigsaws, 16)):
        assert drawn.dtype == torch.uint8 and drawn.shape[1:] == (3, side, side)
        assert int(drawn.min()) == 0 and int(drawn.max()) == 255  # stretched: raw ones have 0 or 1


def test_checkpoint_keeps_its_statistics(compared, bands13, tmp_path, capsys):
    out, _ = compared
    checkpoint = out / "seed0-sp" / "final.ckpt"
    words = ["eval", "--backbone", "tiny_resnet", "--checkpoint", checkpoint, "--tasks", "knn"]
    for _ in range(2):  # the second time it is only read
        sp_bench(*words, "--data", bands13, "--limit", 10, "--out", tmp_path / "x")
    result = json.loads((tmp_path / "x" / "eval.json").read_text())
    stored = json.loads((out / "settings.json").read_text())
    assert result["settings"]["mean"] == stored["mean"] and result["settings"]["side"] == 16
    capsys.readouterr()
    grey = make_bands(tmp_path / "grey", "1-png")
    said = error_of(capsys, *words, "--data", grey, "--out", tmp_path / "y")
    assert "mean: 13 channels, as given or in the checkpoint's run, for images of 1 channel" in said
    assert not (tmp_path / "y").exists()


@pytest.mark.parametrize("name", ["4-tiff", "6-npz", "1-png"])
def test_eval_takes_any_channels(name, tmp_path):
    data = make_bands(tmp_path / "data", name)
    channels = KINDS[name][0]
    given = ["--mean", *[-0.5] * channels, "--std", *[2] * channels] if channels == 6 else []
    sp_bench(
        *("eval", "--backbone", "tiny_resnet", "--data", data, "--side", 16, "--tasks", "knn"),
        *("--out", tmp_path / "out", *given),
    )
    settings = json.loads((tmp_path / "out" / "eval.json").read_text())["settings"]
    assert len(settings["mean"]) == channels
    assert not given or settings["mean"] == [-0.5] * channels


def test_grey_becomes_rgb_on_request(tmp_path):
    data = make_bands(tmp_path / "data", "1-png")
    words = ["eval", "--backbone", "tiny_resnet", "--data", data, "--side", 16, "--tasks", "knn"]
    sp_bench(*words, "--channels", 3, "--out", tmp_path / "out")
    settings = json.loads((tmp_path / "out" / "eval.json").read_text())["settings"]
    assert settings["channels"] == 3 and settings["mean"] is None


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--channels", 3], "channels: got 3 for images of 13 channels of uint16; takes it for"),
        (["--channels", 4], "channels: got 4, takes 1 or 3, to which grey and RGB images are"),
        (["--mean", 0, 0, 0, "--std", 1, 1, 1], "mean: 3 channels, as given or in the checkpoint"),
        (["--mean", 0, 0], "mean: takes --mean and --std together, a number for each channel"),
        (["--mean", 0, 0, "--std", 1], "std: got 1 numbers for 2 of mean, takes as many"),
        (["--mean", 0, "--std", 0], "std: got [0.0], takes numbers above 0"),
        (["--data", "pair=demo"], "task pair: images of 3 channels of uint8, for a backbone of 13"),
    ],
)
def test_bad_channels_are_one_line(words, text, bands13, tmp_path, capsys):
    said = error_of(
        capsys, "eval", "--backbone", "tiny_resnet", "--data", bands13, "--out", tmp_path / "x",
        *words,
    )  # fmt: skip
    assert text in said and not (tmp_path / "x").exists()


def test_bad_files_are_one_line(bands13, tmp_path, capsys):
    data = make_bands(tmp_path / "data", "13-npy")
    np.save(data / "class1" / "4.npy", np.zeros((4, 20, 28), np.uint16))
    for words in (
        ["show", "--count", 20],
        ["eval", "--backbone", "tiny_resnet"],
        ["compare", "--seeds", 0],
    ):
        said = error_of(capsys, *words, "--data", data, "--out", tmp_path / "x")
        assert "13 channels of uint16" in said and "4.npy' has 4 channels of uint16" in said
    said = error_of(capsys, "show", "--data", bands13, "--rgb", 3, 2, 13, "--out", tmp_path / "x")
    assert "rgb: got 3 2 13, takes three channels from 0 to 12" in said


@pytest.mark.slow
@pytest.mark.parametrize("source", ["image", "host_views"])
@pytest.mark.parametrize("name", KINDS)
def test_every_source_trains(name, source, tmp_path):
    data = make_bands(tmp_path / "data", name, 40, 52)
    sp_bench(
        *("compare", "--data", data, "--out", tmp_path / "x", "--seeds", 0, "--epochs", 1),
        *("--batch-size", 8, "--side", 32, "--tasks", "knn", "--workers", 1),
        *("--precision", "32-true", "--sp", f"source={source}", "--sp", "warmup_fraction=0"),
    )
    *_, sp = json.loads((tmp_path / "x" / "results.json").read_text())["runs"]
    assert sp["curve"][0]["sp_loss"] > 0
