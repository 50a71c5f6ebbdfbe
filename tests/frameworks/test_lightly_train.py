"""lightly-train: unedited runs with SP_PLUGIN set; in an environment of its own.

Its licence is AGPL-3.0. No module of this project imports it; only this test does.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

lightly_train = pytest.importorskip(
    "lightly_train", reason="needs lightly-train: make framework-matrix"
)
import numpy as np  # noqa: E402
import yaml  # noqa: E402
from code_blocks import block  # noqa: E402
from framework_table import COLUMNS, HEADS, MATRIX, same  # noqa: E402
from PIL import Image  # noqa: E402
from pytorch_lightning import Callback  # noqa: E402
from sp_lightning import autoload  # noqa: E402

from sp_plugin import ConfigError  # noqa: E402

METHODS: dict[str, dict[str, Any]] = {
    "simclr": {"transform_args": {"image_size": (32, 32)}},
    "dino": {
        "method_args": {"output_dim": 16, "hidden_dim": 16, "bottleneck_dim": 8},
        "transform_args": {
            "image_size": (48, 48),
            "local_view": {"num_views": 2, "view_size": (32, 32)},
            "record_geometry": True,
        },
    },
}
STUDENTS = {
    "simclr": "embedding_model",
    "dino": "student_embedding_model",
}

callbacks = autoload.callbacks

Train = Callable[..., dict[str, Any]]


class _Killed(Exception): ...


class _Reseed(Callback):
    """albumentations seeds its generators at random; and what is drawn must not depend on a cut."""

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        torch.manual_seed(trainer.current_epoch)
        transform = trainer.train_dataloader.dataset.transform
        for n, view in enumerate(transform.transforms):
            view.transform.set_random_seed(100 * trainer.current_epoch + n)


class _Stop(Callback):
    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        if trainer.current_epoch == 1:
            raise _Killed


@pytest.fixture(scope="module")
def images(tmp_path_factory: Any) -> Path:
    folder: Path = tmp_path_factory.mktemp("images")
    random = np.random.default_rng(0)
    for n in range(8):
        pixels = random.integers(0, 255, (6, 8, 3), np.uint8)
        Image.fromarray(pixels).resize((80, 60)).save(folder / f"{n}.png")
    return folder


@pytest.fixture
def train(images: Path, tmp_path: Path, monkeypatch: Any) -> Train:
    """Pre-train for two epochs, and give the last checkpoint."""
    monkeypatch.setenv("LIGHTLY_TRAIN_EVENTS_DISABLED", "1")

    def run(
        method: str, sp: dict[str, Any] | None, name: str, stop: bool = False, **more: Any
    ) -> dict[str, Any]:
        value = ""
        if sp is not None:
            path = tmp_path / "sp.yaml"
            path.write_text(yaml.safe_dump({"warmup_fraction": 0, **sp}))
            value = str(path)
        monkeypatch.setenv("SP_PLUGIN", value)
        added = [_Reseed(), _Stop()][: 1 + stop]
        monkeypatch.setattr(autoload, "callbacks", lambda: [*callbacks(), *added])
        out = tmp_path / name
        lightly_train.pretrain(
            out=out, data=images, model="timm/test_resnet", method=method,
            batch_size=4, num_workers=0, accelerator="cpu", devices=1, precision="32-true",
            **{"epochs": 2, **METHODS[method], **more},
        )  # fmt: skip
        saved: dict[str, Any] = torch.load(
            out / "checkpoints" / "last.ckpt", weights_only=False, map_location="cpu"
        )
        return saved

    return run


@pytest.mark.parametrize("method", METHODS)
def test_method(method: str, train: Train, table: Any) -> None:
    cell = table(MATRIX, HEADS, ("lightly-train", lightly_train.__version__, method), COLUMNS)
    baseline = train(method, None, "baseline")
    trained = train(method, {"backbone": STUDENTS[method]}, "sp")
    found = train(method, {}, "found")
    assert same(found["state_dict"], trained["state_dict"]), "another student is found"
    head, steps = _sp_state(trained)
    assert steps == 4 and not same(trained["state_dict"], baseline["state_dict"])
    cell("trains", "yes")
    off = train(method, {"weight": 0}, "off")
    assert same(off["state_dict"], baseline["state_dict"])
    assert not same(_sp_state(off)[0], head)
    cell("weight 0 equal", "yes")
    resumed = _resumed(train, method, {}, "half")
    is_equal = same(resumed["state_dict"], trained["state_dict"])
    if is_equal:
        assert same(_sp_state(resumed)[0], head)
    else:  # nor is the baseline's, which keeps some of its state in no checkpoint
        plain = _resumed(train, method, None, "half baseline")
        assert not same(plain["state_dict"], baseline["state_dict"])
    cell("resume equal", "yes" if is_equal else "nor is the baseline's")
    assert trained["state_dict"].keys() == baseline["state_dict"].keys()
    cell("checkpoint clean", "yes")


def test_recorded_geometry_gives_host_views(train: Train) -> None:
    settings = {"source": "host_views"}
    baseline = train("dino", None, "baseline")
    trained = train("dino", settings, "sp")
    assert _sp_state(trained)[1] == 4
    assert not same(trained["state_dict"], baseline["state_dict"])
    off = train("dino", {**settings, "weight": 0}, "off")
    assert same(off["state_dict"], baseline["state_dict"])


@pytest.mark.parametrize(
    ("method", "source", "line"),
    (
        ("dino", "host_views", "record_geometry"),
        ("simclr", "host_views", "take 'view'"),
        ("simclr", "image", "takes 'view' or 'host_views'"),
    ),
)
def test_sources_without_data_are_refused(
    method: str, source: str, line: str, train: Train
) -> None:
    args = {**METHODS[method]["transform_args"]}
    args.pop("record_geometry", None)
    with pytest.raises(ConfigError, match=line):
        train(method, {"source": source}, "refused", transform_args=args)


def _resumed(train: Train, method: str, sp: dict[str, Any] | None, name: str) -> dict[str, Any]:
    """Last checkpoint of a run that was killed after its first epoch, and resumed."""
    with contextlib.suppress(_Killed):
        train(method, sp, name, stop=True)
    return train(method, sp, name, resume_interrupted=True)


def _sp_state(saved: dict[str, Any]) -> tuple[dict[str, Any], int]:
    state = saved["callbacks"]["SPCallback"]
    return state["sp"], state["step"]


def test_page_examples_run(images: Path, tmp_path: Path, monkeypatch: Any) -> None:
    """Both calls of the page, made small; the YAML files are those of the page."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SP_PLUGIN", "")
    monkeypatch.setenv("LIGHTLY_TRAIN_EVENTS_DISABLED", "1")
    (tmp_path / "FOLDER").symlink_to(images)
    pretrain = lightly_train.pretrain

    def small(**args: Any) -> None:
        transform_args = {**METHODS["dino"]["transform_args"], **args.pop("transform_args", {})}
        less = {**METHODS["dino"], "transform_args": transform_args, "model": "timm/test_resnet"}
        pretrain(
            **{**args, **less}, epochs=1, batch_size=4, num_workers=0, accelerator="cpu",
            devices=1, precision="32-true", overwrite=True,
        )  # fmt: skip

    monkeypatch.setattr(lightly_train, "pretrain", small)
    page = "docs/lightly-train.md"
    for words, settings in (
        ("os.environ", None), ("record_geometry", "weight: 0.3"),
        ("record_geometry", "^source: host_views"),
    ):  # fmt: skip
        if settings is not None:
            (tmp_path / "sp.yaml").write_text(block(page, settings).text)
            monkeypatch.setenv("SP_PLUGIN", "sp.yaml")
        exec(block(page, words).text, {"lightly_train": lightly_train})
        last = torch.load(tmp_path / "out" / "checkpoints" / "last.ckpt", weights_only=False)
        assert _sp_state(last)[1] == 2
