"""Views for pre-training: the same images, order and augmentations for both arms of a pair."""

from __future__ import annotations

import functools
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from sp_bench.data import ImageDataset
from sp_plugin.isolation import hash_seed, make_generator


class Views(Dataset[Any]):
    """Views of images, and each image's index; labels stay out of pre-training."""

    def __init__(self, images: ImageDataset, transform: Callable[[Any], list[Tensor]]) -> None:
        self.images = images
        self.transform = transform

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[list[Tensor], int]:
        image, _ = self.images[index]
        return self.transform(image), index


class PretrainingData(pl.LightningDataModule):
    """A loader for each epoch, whose order and augmentations follow from (seed, epoch) alone.

    So the two arms of a seed see the same, and a run that goes on after epoch k sees what it
    would have seen, however often Lightning begins to read. The Trainer must reload the loader
    every epoch.
    """

    def __init__(self, views: Views, batch_size: int, workers: int, seed: int) -> None:
        super().__init__()
        self.views = views
        self.batch_size = batch_size
        self.workers = workers
        self.seed = seed

    def train_dataloader(self) -> DataLoader[Any]:
        epoch = self.trainer.current_epoch if self.trainer else 0
        generator = make_generator(self.seed, epoch)
        return DataLoader(
            self.views,
            batch_size=self.batch_size,
            sampler=torch.randperm(len(self.views), generator=generator).tolist(),
            drop_last=True,
            num_workers=self.workers,
            worker_init_fn=functools.partial(_seed_worker, self.seed, epoch),
            generator=generator,
        )


def _seed_worker(seed: int, epoch: int, worker: int) -> None:
    key = hash_seed(seed, epoch, worker)
    torch.manual_seed(key)
    random.seed(key)
    np.random.seed(key % 2**32)  # noqa: NPY002  lightly's transforms draw from this one
