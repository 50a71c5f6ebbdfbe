"""Peers of SP, for their cost: small reference implementations from their papers.

Both use features that the method computes anyway, so they add no pass through the backbone, and
neither compares two local views of one image.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sp_bench.pretext_tasks.augself import mlp


class Augmented(NamedTuple):
    """Parameters of a view's augmentations.

    Attributes:
        crop: (B, 4), centre y and x, height and width, as fractions of the image.
        colour: (B, 4), strengths of brightness, contrast, saturation and hue, in [0, 1].
        flip: (B,), 1 for a flipped view, else 0.
    """

    crop: Tensor
    colour: Tensor
    flip: Tensor

    @classmethod
    def random(cls, count: int, generator: torch.Generator, device: torch.device) -> Augmented:
        """Random parameters: in training the data set provides them, at no cost."""
        values = torch.rand(count, 9, generator=generator).to(device, non_blocking=True)
        return cls(values[:, :4], values[:, 4:8], (values[:, 8] < 0.5).float())


def augmentation_differences(first: Augmented, second: Augmented) -> dict[str, Tensor]:
    """Targets of `sp_bench.pretext_tasks.augself.augself_loss` for two views.

    >>> one = Augmented(torch.zeros(1, 4), torch.ones(1, 4), torch.ones(1))
    >>> two = Augmented(torch.ones(1, 4) / 2, torch.ones(1, 4), torch.zeros(1))
    >>> target = augmentation_differences(one, two)
    >>> target["crop"][0].tolist(), target["colour"].sum().item(), target["flip"].tolist()
    ([-0.5, -0.5, -0.5, -0.5], 0.0, [1.0])
    """
    return {
        "crop": first.crop - second.crop,
        "colour": first.colour - second.colour,
        "flip": (first.flip != second.flip).float(),
    }


class Drloc(nn.Module):
    """Dense relative localization on the last feature map.

    Liu et al., Efficient Training of Visual Transformers with Small Datasets, NeurIPS 2021 (arXiv
    2106.03746), section 4: an MLP with two hidden layers predicts the distance between pairs of
    positions in the last feature map, as fractions of its sides, with absolute error. Simplified:
    one map, without the paper's variants for some backbones.

    Args:
        dim: width D of the features.
        pairs: number of pairs per view, default 64; the authors' code has 32 by default.
    """

    def __init__(self, dim: int, pairs: int = 64) -> None:
        super().__init__()
        self.pairs = pairs
        self.distance = mlp(2 * dim, 2)

    def forward(self, maps: list[Tensor], generator: torch.Generator) -> Tensor:
        """The loss, from the maps (B, D, h, w) of all views."""
        features = torch.cat(maps)
        batch, _, height, width = features.shape
        draws = torch.rand(2, batch, self.pairs, 2, generator=generator)
        positions = (draws * torch.tensor([height, width])).long()
        positions = positions.to(features.device, non_blocking=True)
        images = torch.arange(batch, device=features.device)[:, None]
        pair = [features[images, :, position[..., 0], position[..., 1]] for position in positions]
        predicted = self.distance(torch.cat(pair, dim=-1)).float()
        first, second = positions
        return F.l1_loss(predicted, distances(first, second, height, width))


def distances(first: Tensor, second: Tensor, height: int, width: int) -> Tensor:
    """Targets of Drloc: distances of positions (..., 2), as fractions of the map's sides.

    Args:
        first: (..., 2), row and column of the first position.
        second: (..., 2), row and column of the second position.
        height: height of the map.
        width: width of the map.

    >>> distances(torch.tensor([0, 6]), torch.tensor([2, 3]), 4, 6).tolist()
    [0.5, 0.5]
    """
    offset = (first - second).abs()
    return offset / offset.new_tensor([height, width])
