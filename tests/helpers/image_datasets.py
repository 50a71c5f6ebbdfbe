"""Data sets of random images with a method's transform, for tests of what SP does to the data."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision import transforms as T

HEIGHT, WIDTH = 48, 64


class TwoCrops:
    """A method's transform, with randomness of its own: two random crops of 32 px."""

    def __init__(self, flip: bool = False) -> None:
        crop = T.RandomResizedCrop(32, antialias=True)
        self.crop = T.Compose([crop, T.RandomHorizontalFlip()]) if flip else crop

    def __call__(self, image: Tensor) -> list[Tensor]:
        return [self.crop(image), self.crop(image)]


class Images(Dataset[Any]):
    """Samples (views, index), of an image that depends on the index only."""

    def __init__(self, transform: Any = None, count: int = 16) -> None:
        self.transform = transform or TwoCrops()
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[Any, int]:
        if index == self.count:
            raise IndexError
        generator = torch.Generator().manual_seed(index)
        return self.transform(torch.rand(3, HEIGHT, WIDTH, generator=generator)), index
