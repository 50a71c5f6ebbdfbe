"""torchgeo: its three self-supervised tasks on 13 bands, unedited; in an environment of its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

torchgeo = pytest.importorskip("torchgeo", reason="needs torchgeo: make framework-matrix")
from framework_contract import Host, check_contract, run_page_block  # noqa: E402
from framework_table import COLUMNS, HEADS, MATRIX  # noqa: E402
from lightning.pytorch import LightningDataModule  # noqa: E402
from sp_lightning import SPCallback  # noqa: E402
from torchgeo.trainers import BYOLTask, MoCoTask, SimCLRTask  # noqa: E402

from sp_plugin import ConfigError  # noqa: E402

BANDS, SIDE, COUNT = 13, 64, 8
_SMALL = {"model": "test_resnet", "in_channels": BANDS}
_SHAPE = {"size": SIDE, "hidden_dim": 16, "output_dim": 8}
_QUEUE = {"memory_bank_size": 16}

TASKS: dict[str, Callable[[], Any]] = {
    "BYOLTask": lambda: BYOLTask(**_SMALL),
    "MoCoTask v1": lambda: MoCoTask(
        **_SMALL, size=SIDE, version=1, output_dim=96, lr=0.1, **_QUEUE
    ),  # the width of the model
    "MoCoTask v2": lambda: MoCoTask(**_SMALL, **_SHAPE, version=2, layers=2, lr=0.1, **_QUEUE),
    "MoCoTask v3": lambda: MoCoTask(**_SMALL, **_SHAPE, lr=0.01),
    "SimCLRTask v1": lambda: SimCLRTask(
        **_SMALL, **_SHAPE, version=1, layers=2, memory_bank_size=0, lr=0.1
    ),
    "SimCLRTask v2": lambda: SimCLRTask(**_SMALL, **_SHAPE, lr=0.1, **_QUEUE),
}
STUDENTS = {"BYOLTask": "model.backbone.model"}


class Bands(Dataset[Any]):
    """Dict samples of ``channels`` bands, made from their index."""

    def __init__(self, channels: int = BANDS, transform: Any = None) -> None:
        self.channels, self.transform = channels, transform

    def __len__(self) -> int:
        return COUNT

    def __getitem__(self, index: int) -> Any:
        generator = torch.Generator().manual_seed(index)
        image = torch.rand(self.channels, SIDE, SIDE, generator=generator)
        sample = {"image": image, "label": index % 2}
        return self.transform(sample) if self.transform else sample


def host(name: str, channels: int = BANDS, **settings: Any) -> Host:
    def loader() -> Any:
        data = Bands(channels, lambda sample: sample)
        return DataLoader(data, 4, generator=torch.Generator().manual_seed(0))

    return Host(TASKS[name], loader, settings=settings)


@pytest.mark.parametrize("name", TASKS)
def test_task(name: str, table: Any, tmp_path: Path) -> None:
    cell = table(MATRIX, HEADS, ("torchgeo", torchgeo.__version__, name), COLUMNS)
    callback = check_contract(host(name), cell, tmp_path)
    student = STUDENTS.get(name, "backbone")
    assert callback.backbone_name == student
    width = host(name).new().get_submodule(student).num_features
    assert callback.sp is not None and callback.sp.feature_dim == width


def test_crops_of_the_image() -> None:
    run = host("SimCLRTask v1", source="image")
    module, callback = run.new(), run.sp()
    trainer = run.fit(module, callback)
    assert float(trainer.callback_metrics["train_sp_skipped_fraction"]) < 1


def test_two_images_in_one_tensor() -> None:
    """Pairs of seasons have twice the bands: one half is a view."""
    run = host("MoCoTask v3", 2 * BANDS)
    with pytest.raises(ConfigError, match="26"):
        run.fit(run.new(), run.sp())


def test_host_views_are_refused() -> None:
    """The views are made in the training step, where no transform can be tracked."""
    run = host("SimCLRTask v1", source="host_views")
    with pytest.raises(ConfigError, match="take 'view' or 'image'"):
        run.fit(run.new(), SPCallback(source="host_views"))


def test_page_example_runs(monkeypatch: Any) -> None:
    loader = DataLoader(Bands(), 4)
    module = LightningDataModule.from_datasets(loader.dataset, batch_size=4)
    run_page_block("docs/torchgeo.md", "trainer.fit", monkeypatch, datamodule=module)
