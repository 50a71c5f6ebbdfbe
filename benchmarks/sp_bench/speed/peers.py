"""Peers of SP, for what they cost: small references, written anew from their papers.

Both ask about features that the host computes anyway, so they add no pass through the backbone,
and neither compares two local views of one image.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_WIDTH = 512  # of the heads' hidden layers


class Augmented(NamedTuple):
    """What a view's augmentations did to it.

    Attributes:
        crop: (B, 4), centre y and x, height and width, fractions of the image.
        colour: (B, 4), strengths of brightness, contrast, saturation and hue, each in [0, 1].
        flip: (B,), 1 where it was flipped, else 0.
    """

    crop: Tensor
    colour: Tensor
    flip: Tensor

    @classmethod
    def drawn(cls, count: int, generator: torch.Generator, device: torch.device) -> Augmented:
        """At random: a data set would bring them, and what they are costs nothing."""
        values = torch.rand(count, 9, generator=generator).to(device, non_blocking=True)
        return cls(values[:, :4], values[:, 4:8], (values[:, 8] < 0.5).float())


class AugSelf(nn.Module):
    """Lee et al., Improving Transferability of Representations via Augmentation-Aware
    Self-Supervision, NeurIPS 2021 (arXiv 2111.09613), section 2.

    From the features of the host's two views an MLP for each augmentation predicts how their
    parameters differ: crop and colour by regression (squared error), flip as a class.

    Simplified: three of the augmentations (not grey, blur or solarisation), all with weight 1, and
    the parameters are drawn at random instead of recorded from the views.

    Args:
        dim: width D of the features.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.crop, self.colour, self.flip = (mlp(2 * dim, outputs) for outputs in (4, 4, 2))

    def forward(self, features: list[Tensor], views: tuple[Augmented, Augmented]) -> Tensor:
        """The loss, from the features (B, D) of both views and what was done to each."""
        both = torch.cat(features[:2], dim=1)
        crop, colour, flip = differences(*views)
        loss = F.mse_loss(self.crop(both).float(), crop)
        loss = loss + F.mse_loss(self.colour(both).float(), colour)
        return loss + F.cross_entropy(self.flip(both).float(), flip)


def differences(first: Augmented, second: Augmented) -> tuple[Tensor, Tensor, Tensor]:
    """AugSelf's targets: crop (B, 4), colour (B, 4), and the class (B,) of the flips, 1 if unlike.

    >>> one = Augmented(torch.zeros(1, 4), torch.ones(1, 4), torch.ones(1))
    >>> two = Augmented(torch.ones(1, 4) / 2, torch.ones(1, 4), torch.zeros(1))
    >>> crop, colour, flip = differences(one, two)
    >>> crop[0].tolist(), colour.sum().item(), flip.tolist()
    ([-0.5, -0.5, -0.5, -0.5], 0.0, [1])
    """
    unlike = (first.flip != second.flip).long()
    return first.crop - second.crop, first.colour - second.colour, unlike


class Drloc(nn.Module):
    """Liu et al., Efficient Training of Visual Transformers with Small Datasets, NeurIPS 2021
    (arXiv 2106.03746), section 4.

    Pairs of places in the last map of features; an MLP with two hidden layers says how far apart
    they are, as shares of the map's sides; absolute error.

    Simplified: one map, without the variants that the paper has for some backbones.

    Args:
        dim: width D of the features.
        pairs: of each view. The authors' code takes 32 if it is not told.
    """

    def __init__(self, dim: int, pairs: int = 64) -> None:
        super().__init__()
        self.pairs = pairs
        self.distance = mlp(dim, 2, copies=2)

    def forward(self, maps: list[Tensor], generator: torch.Generator) -> Tensor:
        """The loss, from the maps (B, D, h, w) of all views."""
        features = torch.cat(maps)
        batch, _, height, width = features.shape
        places = torch.rand(2, batch, self.pairs, 2, generator=generator)
        places = (places * torch.tensor([height, width])).long()
        places = places.to(features.device, non_blocking=True)
        rows = torch.arange(batch, device=features.device)[:, None]
        first, second = places
        both = [features[rows, :, place[..., 0], place[..., 1]] for place in (first, second)]
        said = self.distance(torch.cat(both, dim=-1)).float()
        return F.l1_loss(said, distances(first, second, height, width))


def distances(first: Tensor, second: Tensor, height: int, width: int) -> Tensor:
    """Drloc's targets: how far apart places (..., 2) of (row, column) are, as shares of the sides.

    >>> distances(torch.tensor([0, 6]), torch.tensor([2, 3]), 4, 6).tolist()
    [0.5, 0.5]
    """
    away = (first - second).abs()
    return away / away.new_tensor([height, width])


def mlp(inputs: int, outputs: int, copies: int = 1) -> nn.Sequential:
    """A peer's head: two hidden layers of 512, on ``copies`` features side by side."""
    return nn.Sequential(
        nn.Linear(copies * inputs, _WIDTH),
        nn.ReLU(),
        nn.Linear(_WIDTH, _WIDTH),
        nn.ReLU(),
        nn.Linear(_WIDTH, outputs),
    )
