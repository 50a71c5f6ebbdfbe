"""Shared by the scripts of this folder: arguments, a ResNet-18, the Trainer."""

from __future__ import annotations

import argparse
from typing import Any

import pytorch_lightning as pl
import torch
from torch import nn
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.models import resnet18


def arguments() -> argparse.Namespace:
    """Command line; without ``--sp WEIGHT`` the script runs the plain baseline."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", required=True, help="image folder with one subfolder per class")
    parser.add_argument("--sp", type=float, metavar="WEIGHT", help="such as 0.5; 0: the baseline")
    parser.add_argument("--source", choices=("view", "image", "host_views"), default="view")
    parser.add_argument("--side", type=int, default=224, help="side of the full views in pixels")
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    pl.seed_everything(given.seed, workers=True)
    return given


class LitMethod(pl.LightningModule):
    """A ResNet-18 as ``backbone``, trained by SGD with a cosine schedule."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone: nn.Module = resnet18()
        self.backbone.fc = nn.Identity()

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=0.06, momentum=0.9, weight_decay=5e-4)
        steps = int(self.trainer.estimated_stepping_batches)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        return [optimizer], [{"scheduler": schedule, "interval": "step"}]


def fit(module: LitMethod, transform: Any, given: argparse.Namespace, callbacks: list[Any]) -> None:
    """Train on an image folder; Lightning saves the checkpoint in ``lightning_logs``."""
    loader = DataLoader(
        ImageFolder(given.data, transform), given.batch_size, shuffle=True, drop_last=True,
        num_workers=given.workers, persistent_workers=given.workers > 0,
    )  # fmt: skip
    pl.Trainer(max_epochs=given.epochs, callbacks=callbacks).fit(module, loader)
