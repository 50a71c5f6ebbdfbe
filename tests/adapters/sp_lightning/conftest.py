"""Short hosts, one for each family, and a way to fit them; for either Lightning package."""

from __future__ import annotations

import copy
import importlib
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

SIDE = 32


class SyntheticViews(Dataset[Any]):
    """Images made from their index: ``sides`` says how many views there are, and how large."""

    def __init__(self, sides: tuple[int, ...] = (SIDE, SIDE), n: int = 16) -> None:
        self.sides, self.n = sides, n

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, index: int) -> tuple[list[Tensor], int]:
        generator = torch.Generator().manual_seed(index)
        return [torch.rand(3, side, side, generator=generator) for side in self.sides], index


def backbone() -> nn.Module:
    """BatchNorm, and dropout that draws at random: both break a careless neighbour."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.2),
        nn.Conv2d(8, 16, 3, stride=2), nn.BatchNorm2d(16), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(),
    )  # fmt: skip


class Kit:
    """Hosts and a Trainer of one Lightning package."""

    def __init__(self, package: str) -> None:
        self.package = package
        self.pl = importlib.import_module(package)
        logging.getLogger(package).setLevel(logging.ERROR)
        logging.getLogger(f"{package}.utilities.rank_zero").setLevel(logging.ERROR)
        self.hosts = {
            "two_views": _two_views(self.pl),
            "teacher": _teacher(self.pl),
            "multi_crop": _multi_crop(self.pl),
            "masked": _masked(self.pl),
            "manual": _manual(self.pl),
            "many_views": _many_views(self.pl),
            "nested": _nested(self.pl),
            "queue": _queue(self.pl),
        }

    @staticmethod
    def state(module: Any) -> dict[str, Tensor]:
        """A copy of a module's weights and buffers."""
        return {name: value.clone() for name, value in module.state_dict().items()}

    @staticmethod
    def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
        """Whether two states are identical, bit for bit."""
        return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)

    def new(self, host: str) -> Any:
        """A host with the same weights each time."""
        self.pl.seed_everything(0)
        return self.hosts[host]()

    def trainer(self, *callbacks: Any, **options: Any) -> Any:
        quiet = {
            "logger": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "enable_checkpointing": False,
        }
        return self.pl.Trainer(
            **{"accelerator": "cpu", "max_epochs": 2, **quiet, **options}, callbacks=list(callbacks)
        )

    def fit(self, host: Any, *callbacks: Any, ckpt_path: Any = None, **options: Any) -> Any:
        """Fit a host on two views (or its own), and give the trainer."""
        trainer = self.trainer(*callbacks, **options)
        sides = getattr(host, "sides", (SIDE, SIDE))
        loader = DataLoader(
            SyntheticViews(sides), batch_size=8, generator=torch.Generator().manual_seed(0)
        )
        trainer.fit(host, loader, ckpt_path=ckpt_path)
        return trainer

    def reseed(self) -> Any:
        """A callback by which the host's own draws do not depend on where a run was cut."""

        class Reseed(self.pl.Callback):
            def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
                torch.manual_seed(trainer.current_epoch)

        return Reseed()

    def kill_after_epoch(self, checkpoint: Path) -> Any:
        """A callback that saves a checkpoint after the first epoch and raises KeyError."""

        class Kill(self.pl.Callback):
            def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
                trainer.save_checkpoint(checkpoint)
                raise KeyError("killed")

        return Kill()


PACKAGES = ("pytorch_lightning", "lightning.pytorch")


@pytest.fixture(params=PACKAGES)
def kit(request: pytest.FixtureRequest) -> Kit:
    return Kit(request.param)


@pytest.fixture
def feature(request: pytest.FixtureRequest, table: Any, kit: Kit) -> None:
    """Makes a test a row of the table of features, by its name; each package is a column."""
    row = request.node.originalname.removeprefix("test_").replace("_", " ")
    table("Trainer features", ("feature",), (row,), PACKAGES, fills=(kit.package,))


def _two_views(pl: Any) -> type:
    class TwoViews(pl.LightningModule):
        name = "backbone"

        def __init__(self) -> None:
            super().__init__()
            self.backbone = backbone()
            self.projector = nn.Linear(16, 8)

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            first, second = (self.projector(self.backbone(view)) for view in batch[0])
            return (first - second).square().mean() - first.std(dim=0).mean()

        def configure_optimizers(self) -> Any:
            optimizer = torch.optim.SGD(self.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-4)
            return [optimizer], [torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=9)]

    return TwoViews


def _teacher(pl: Any) -> type:
    class Teacher(pl.LightningModule):
        """The student has another name; the teacher's is ``backbone``. Two parameter groups."""

        name = "student"

        def __init__(self) -> None:
            super().__init__()
            self.student = backbone()
            self.backbone = copy.deepcopy(self.student).requires_grad_(False)
            self.projector = nn.Linear(16, 16)

        def training_step(self, batch: Any, batch_idx: int) -> dict[str, Tensor]:
            with torch.no_grad():
                pairs = zip(self.student.parameters(), self.backbone.parameters(), strict=True)
                for ours, theirs in pairs:
                    theirs.lerp_(ours, 0.1)
                target = self.backbone(batch[0][1])
            return {"loss": (self.projector(self.student(batch[0][0])) - target).square().mean()}

        def configure_optimizers(self) -> Any:
            parts = [*self.student.parameters(), *self.projector.parameters()]
            matrices = [p for p in parts if p.ndim > 1]
            others = [p for p in parts if p.ndim <= 1]
            groups = [{"params": others, "weight_decay": 0.0}, {"params": matrices}]
            optimizer = torch.optim.AdamW(groups, lr=1e-2, weight_decay=1e-2)
            schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, [lambda _: 1.0, lambda _: 0.5])
            return {"optimizer": optimizer, "lr_scheduler": schedule}

    return Teacher


def _multi_crop(pl: Any) -> type:
    class MultiCrop(_two_views(pl)):  # type: ignore[misc]
        sides = (SIDE, SIDE, SIDE // 2, SIDE // 2)

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            out = [self.projector(self.backbone(view)) for view in batch[0]]
            return torch.stack([(z - out[0].detach()).square().mean() for z in out[1:]]).sum()

    return MultiCrop


def _masked(pl: Any) -> type:
    class Masked(pl.LightningModule):
        """Draws its mask from the global generator in every step, as MAE does."""

        name = "backbone"

        def __init__(self) -> None:
            super().__init__()
            from timm.models.vision_transformer import VisionTransformer

            self.backbone = VisionTransformer(
                img_size=SIDE, patch_size=8, embed_dim=24, depth=2, num_heads=2, num_classes=0,
                drop_path_rate=0.2, dynamic_img_size=True,
            )  # fmt: skip
            self.decoder = nn.Linear(24, 3)

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            view = batch[0][0]
            mask = (torch.rand(len(view), 1, SIDE, SIDE) > 0.5).to(view)
            return (self.decoder(self.backbone(view * mask)) - view.mean((2, 3))).square().mean()

        def configure_optimizers(self) -> Any:
            return torch.optim.AdamW(self.parameters(), lr=1e-3)

    return Masked


def _manual(pl: Any) -> type:
    class Manual(_two_views(pl)):  # type: ignore[misc]
        """Manual optimisation with two optimizers and two backward passes a step."""

        def __init__(self) -> None:
            super().__init__()
            self.automatic_optimization = False

        def training_step(self, batch: Any, batch_idx: int) -> None:
            first, second = self.optimizers()
            for optimizer in (first, second):
                optimizer.zero_grad()
            self.manual_backward(super().training_step(batch, batch_idx))
            self.manual_backward(self.projector(self.backbone(batch[0][0])).square().mean())
            for optimizer in (first, second):
                optimizer.step()

        def configure_optimizers(self) -> Any:
            return [
                torch.optim.SGD(self.projector.parameters(), lr=0.05),
                torch.optim.SGD(self.backbone.parameters(), lr=0.05),
            ]

    return Manual


def _many_views(pl: Any) -> type:
    class ManyViews(_two_views(pl)):  # type: ignore[misc]
        sides = (SIDE,) * 4

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            out = [self.projector(self.backbone(view)) for view in batch[0]]
            mean = torch.stack(out).mean(dim=0)
            return sum((z - mean).square().mean() for z in out) - mean.std(dim=0).mean()

    return ManyViews


def _nested(pl: Any) -> type:
    class Nested(_two_views(pl)):  # type: ignore[misc]
        """Views inside a dict inside a list, with a grid of positions next to them, as VICRegL."""

        def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
            views, index = batch
            return [{"grids": [index, index], "views": [[views[0]], [views[1]]]}, index]

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            (first,), (second,) = batch[0]["views"]
            return super().training_step([[first, second], batch[1]], batch_idx)

    return Nested


def _queue(pl: Any) -> type:
    class Queue(_two_views(pl)):  # type: ignore[misc]
        """Negatives from a queue of earlier features, which must never hold SP's crops."""

        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("queue", torch.randn(32, 8))

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            first, second = (self.projector(self.backbone(view)) for view in batch[0])
            close = (first * second).sum(dim=1, keepdim=True)
            logits = torch.cat([close, first @ self.queue.T], dim=1)
            self.queue = torch.cat([second.detach(), self.queue])[:32]
            return -logits.log_softmax(dim=1)[:, 0].mean()

    return Queue
