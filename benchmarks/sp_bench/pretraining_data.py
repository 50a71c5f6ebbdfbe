"""Views for pre-training: the same pictures, order and augmentations for both arms of a pair."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from sp_bench.data import Pictures
from sp_plugin.isolation import generator_for


class Views(Dataset[Any]):
    """Views of pictures, and each picture's index; labels stay out of pre-training."""

    def __init__(self, pictures: Pictures, transform: Callable[[Any], list[Tensor]]) -> None:
        self.pictures = pictures
        self.transform = transform

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: int) -> tuple[list[Tensor], int]:
        picture, _ = self.pictures[index]
        return self.transform(picture), index


class PretrainingData(pl.LightningDataModule):
    """A loader for each epoch, drawn from a generator of (seed, epoch) alone.

    So the two arms of a seed see the same, and a run that goes on after epoch k sees what it
    would have seen. Augmentations are drawn in the workers, which that generator seeds; the
    Trainer must reload the loader every epoch.
    """

    def __init__(self, views: Views, batch_size: int, workers: int, seed: int) -> None:
        super().__init__()
        self.views = views
        self.batch_size = batch_size
        self.workers = workers
        self.seed = seed

    def train_dataloader(self) -> DataLoader[Any]:
        epoch = self.trainer.current_epoch if self.trainer else 0
        return DataLoader(
            self.views,
            batch_size=self.batch_size,
            shuffle=True,
            drop_last=True,
            num_workers=self.workers,
            generator=generator_for(self.seed, epoch),
        )
