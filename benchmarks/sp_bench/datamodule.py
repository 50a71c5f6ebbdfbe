"""Views for pre-training: the same images, order and augmentations in every arm of a seed."""

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
from sp_bench.data.image_kind import convert_channels
from sp_plugin.isolation import hash_seed, make_generator


class ViewDataset(Dataset[Any]):
    """Views (C, S, S) of each image and its index; labels are not used in pre-training."""

    def __init__(
        self, images: ImageDataset, transform: Callable[[Any], list[Tensor]], channels: int = 3
    ) -> None:
        self.images = images
        self.transform = transform
        self.channels = channels

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[list[Tensor], int]:
        image, _ = self.images[index]
        return self.transform(convert_channels(image, self.channels)), index


class PretrainingData(pl.LightningDataModule):
    """A loader per epoch, whose order and augmentations depend only on (seed, epoch, workers).

    So the arms of a seed train on the same views, and a resumed run on those of an uninterrupted
    one, however often Lightning starts to read. The Trainer must reload the loader every epoch.
    """

    def __init__(self, views: ViewDataset, batch_size: int, workers: int, seed: int) -> None:
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
            worker_init_fn=functools.partial(seed_global_rngs, self.seed, epoch),
            generator=generator,
        )


def seed_global_rngs(*keys: int) -> None:
    """Seed the global generators of torch, Python and NumPy from integers, such as (seed, epoch).

    lightly's transforms and methods draw from all three.
    """
    seed = hash_seed(*keys)
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002
