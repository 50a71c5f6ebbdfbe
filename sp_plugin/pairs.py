"""Pairs: two crops of each picture of a batch, and where they were cut."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor


class Pairs(NamedTuple):
    """What SP asks about: one pair of crops for each picture.

    Attributes:
        boxes: (2, B, 4), crops a and b as (cx, cy, w, h), fractions of the frame they share.
        crops: (2B, C, S, S), first all a, then all b; normalised as the backbone takes them.
    """

    boxes: Tensor
    crops: Tensor

    @classmethod
    def collated(cls, sample: Mapping[str, Any]) -> Pairs:
        """From what a data loader makes of the samples of `sp_plugin.transforms.ImageCrops`.

        Args:
            sample: ``crops`` (B, 2, C, S, S) and ``boxes`` (B, 2, 4).

        >>> sample = {"crops": torch.zeros(5, 2, 3, 8, 8), "boxes": torch.zeros(5, 2, 4)}
        >>> pairs = Pairs.collated(sample)
        >>> pairs.boxes.shape, pairs.crops.shape
        (torch.Size([2, 5, 4]), torch.Size([10, 3, 8, 8]))
        """
        boxes, crops = sample["boxes"], sample["crops"]
        return cls(boxes.transpose(0, 1), torch.cat(crops.unbind(1)))
