"""SPCallback by name: in LightningCLI's YAML file and command line, and for hydra."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
from typing import Any

import pytest
import sp_lightning
import torch
from sp_lightning import SPCallback
from torch.utils.data import DataLoader

from sp_plugin import SPConfig

# As written in YAML; null is every setting's default where it takes it.
SETTINGS: dict[str, Any] = {
    "weight": 0.25, "relative_weight": False, "num_crops": 3, "num_pairs": 2, "crop_size": [12, 16],
    "sample_fraction": 0.5,
    "crop_scale": [[0.05, 0.1], [0.1, 0.32]], "max_iou": [1.0, 0.1], "crop_ratio": [0.8, 1.25],
    "window": [0.5, 1.0], "layer": None, "seed": 3,
}  # fmt: skip


def test_signature_names_every_setting(kit: Any) -> None:
    parameters = inspect.signature(SPCallback).parameters
    assert list(parameters)[:5] == [
        "backbone", "config", "feature_fn", "on_nonfinite", "record_folder"
    ]  # fmt: skip
    for field in dataclasses.fields(SPConfig):
        assert parameters[field.name].default == field.default
        assert not isinstance(parameters[field.name].annotation, str)
        assert f"\n    {field.name}: " in inspect.getdoc(SPCallback)


def test_classes_can_be_named(kit: Any) -> None:
    name = {"pytorch_lightning": "PytorchLightningSPCallback"}.get(
        kit.package, "LightningSPCallback"
    )
    for cls in (sp_lightning.SPCallback, getattr(sp_lightning, name)):  # of the loaded packages
        assert issubclass(cls, kit.pl.Callback) and isinstance(cls(), kit.pl.Callback)


def run_cli(kit: Any, *args: str) -> Any:
    cli = pytest.importorskip("jsonargparse") and importlib.import_module(f"{kit.package}.cli")
    if not cli._JSONARGPARSE_SIGNATURES_AVAILABLE:
        pytest.skip("this Lightning takes another jsonargparse")

    class Host(kit.hosts["two_views"]):
        def train_dataloader(self) -> Any:
            return DataLoader([([torch.rand(3, 32, 32) for _ in range(2)], 0)] * 8, batch_size=4)

    quiet = [
        f"--trainer.{name}=false"
        for name in ("logger", "enable_progress_bar", "enable_checkpointing")
    ]
    return cli.LightningCLI(
        Host,
        args=["fit", "--trainer.accelerator=cpu", "--trainer.max_epochs=1", *quiet, *args],
        save_config_callback=None,
    )


def callback_of(cli: Any) -> Any:
    (callback,) = [one for one in cli.trainer.callbacks if isinstance(one, SPCallback)]
    return callback


@pytest.mark.parametrize("name", ("SPCallback", "PytorchLightningSPCallback"))
def test_yaml_file(kit: Any, name: str, tmp_path: Any) -> None:
    if name != "SPCallback" and kit.package != "pytorch_lightning":
        name = "LightningSPCallback"
    yaml = pytest.importorskip("yaml")
    entry = {"class_path": f"sp_lightning.{name}", "init_args": SETTINGS}
    (tmp_path / "run.yaml").write_text(yaml.safe_dump({"trainer": {"callbacks": [entry]}}))
    callback = callback_of(run_cli(kit, "--config", str(tmp_path / "run.yaml")))
    assert callback.config == SPConfig(**SETTINGS) and callback.step == 2


def test_command_line(kit: Any, capsys: Any) -> None:
    callback = callback_of(
        run_cli(
            kit, "--trainer.callbacks+=sp_lightning.SPCallback", "--trainer.callbacks.weight=0.25",
            "--trainer.callbacks.num_pairs=2", "--trainer.callbacks.backbone=backbone",
            "--trainer.callbacks.max_iou=[1.0,0.1]", "--trainer.callbacks.crop_size=[12,16]",
        )
    )  # fmt: skip
    expected = SPConfig(weight=0.25, num_pairs=2, max_iou=(1.0, 0.1), crop_size=(12, 16))
    assert callback.config == expected
    with pytest.raises(SystemExit):
        run_cli(kit, "--trainer.callbacks.help=sp_lightning.SPCallback")
    captured = capsys.readouterr()
    text = captured.out + captured.err
    assert "weight of SP; 0 leaves" in text
    for field in dataclasses.fields(SPConfig):
        assert f".{field.name} " in text


@pytest.mark.parametrize("source", ("view", "image"))
def test_hydra_instantiates_by_target(kit: Any, source: str) -> None:
    hydra_utils = pytest.importorskip("hydra.utils")
    settings = SETTINGS if source == "view" else {"source": "image", "crop_scale": [0.1, 0.3]}
    config = {"_target_": "sp_lightning.SPCallback", "backbone": "backbone", **settings}
    callback = hydra_utils.instantiate(config)
    assert isinstance(callback, kit.pl.Callback) and callback.config == SPConfig(**settings)
    nested = {"_target_": "sp_lightning.SPCallback", "config": settings}
    assert hydra_utils.instantiate(nested).config == SPConfig(**settings)
