"""Images of any number of channels, and of any shape, with each kind of backbone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from image_backbones import BACKBONES, cases
from sp_lightning import SPCallback
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

COLUMNS = ("view", "image", "host_views")
SETTINGS = {"hidden_dim": 8, "relative_weight": False, "warmup_fraction": 0.0}


class Bands(Dataset[Any]):
    """Images (C, H, W) that follow from their index, with a transform that makes two views."""

    def __init__(self, channels: int, size: tuple[int, int]) -> None:
        self.shape = (channels, size[0] + 8, size[1] + 8)
        self.transform = TwoViews(size)

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> Any:
        image = torch.rand(self.shape, generator=torch.Generator().manual_seed(index))
        return self.transform(image)


class TwoViews:
    def __init__(self, size: tuple[int, int]) -> None:
        self.augment = v2.Compose([v2.RandomResizedCrop(size), v2.RandomHorizontalFlip()])

    def __call__(self, image: Tensor) -> list[Tensor]:
        return [self.augment(image), self.augment(image)]


def trained(
    pl: Any, name: str, channels: int, size: tuple[int, int], *callbacks: Any
) -> dict[str, Tensor]:
    """Weights after two steps of a module that compares its two views."""

    class Method(pl.LightningModule):  # type: ignore[name-defined, misc]
        def __init__(self) -> None:
            super().__init__()
            self.backbone = BACKBONES[name](channels, size)

        def training_step(self, batch: list[Tensor], _: int) -> Tensor:
            first, second = (self.backbone(view) for view in batch)
            return nn.functional.mse_loss(first, second)

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=0.1)

    pl.seed_everything(0)
    method = Method()
    trainer = pl.Trainer(
        accelerator="cpu", max_epochs=1, logger=False, enable_progress_bar=False,
        enable_model_summary=False, enable_checkpointing=False, callbacks=list(callbacks),
    )  # fmt: skip
    torch.manual_seed(0)
    trainer.fit(method, DataLoader(Bands(channels, size), batch_size=4))
    return {key: value.clone() for key, value in method.state_dict().items()}


def check(pl: Any, name: str, channels: int, size: tuple[int, int], **settings: Any) -> Any:
    """Weight 0 leaves the baseline, and another weight changes it."""
    baseline = trained(pl, name, channels, size)
    at_0 = trained(pl, name, channels, size, SPCallback(weight=0, **SETTINGS, **settings))
    assert all(torch.equal(baseline[key], at_0[key]) for key in baseline)
    callback = SPCallback(weight=1, **SETTINGS, **settings)
    with_sp = trained(pl, name, channels, size, callback)
    assert any(not torch.equal(baseline[key], with_sp[key]) for key in baseline)
    return callback.sp


@pytest.fixture
def pl() -> Any:
    return pytest.importorskip("pytorch_lightning")


QUICK = [("ResNet", 1), ("ResNet", 4), *((name, 13) for name in BACKBONES)]


@pytest.mark.parametrize(("name", "channels"), cases(*QUICK))
def test_backbone_trains(pl: Any, table: Any, name: str, channels: int) -> None:
    table("Channels", ("backbone", "channels"), (name, str(channels)), COLUMNS, fills=("view",))
    assert check(pl, name, channels, (32, 32)).channels == channels


@pytest.mark.parametrize("source", ("image", "host_views"))
@pytest.mark.parametrize(
    "channels", [13, *(pytest.param(count, marks=pytest.mark.slow) for count in (1, 2, 4))]
)
def test_source_takes_any_channels(pl: Any, table: Any, channels: int, source: str) -> None:
    table("Channels", ("backbone", "channels"), ("ResNet", str(channels)), COLUMNS, fills=(source,))
    check(pl, "ResNet", channels, (32, 32), source=source)


@pytest.mark.parametrize("source", COLUMNS)
@pytest.mark.parametrize("name", ("ResNet", "ViT, fixed size"))
def test_long_views_train(pl: Any, caplog: Any, name: str, source: str) -> None:
    sp = check(pl, name, 1, (32, 96), source=source)
    if source != "host_views":
        assert sp.config.crop_size == (16 if name == "ResNet" else (32, 96))
    assert "stretched" not in caplog.text
