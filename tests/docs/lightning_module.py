"""A method and its data, for the blocks that make a Trainer with SP's callback."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from lightly.transforms import DINOTransform, SimCLRTransform
from small_data import make_images
from torch import nn
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder


class TwoViews(pl.LightningModule):
    """Makes the features of the first two views alike."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(
            nn.Conv2d(3, 8, 3, stride=2), nn.AdaptiveAvgPool2d(1), nn.Flatten()
        )

    def training_step(self, batch: Any, index: int) -> torch.Tensor:
        (a, b, *_), _ = batch
        return (self.backbone(a) - self.backbone(b)).square().mean()

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def names(folder: Path) -> dict[str, Any]:
    """What the blocks take from their reader's program."""
    small = functools.partial(DINOTransform, global_crop_size=48, local_crop_size=32)
    data = functools.partial(ImageFolder, str(make_images(folder / "FOLDER")))
    return {"MyData": data, "DINOTransform": small}


def fit(block_names: dict[str, Any]) -> None:
    """Train one step with the block's Trainer, on the block's data set if it makes one."""
    dataset = block_names.get("dataset") or block_names["MyData"](SimCLRTransform(input_size=48))
    block_names["trainer"].fit(TwoViews(), DataLoader(dataset, batch_size=4))
