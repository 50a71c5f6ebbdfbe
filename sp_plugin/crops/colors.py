"""Colours of crops that are not RGB: each channel of its own gain and offset."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["ChannelJitter"]


class ChannelJitter:
    """Random gain and offset of each channel; draws from the global generator.

    It holds for numbers of any range, such as reflectances or decibels: the offset is measured in
    the channel's own standard deviation, and nothing is clipped.

    Args:
        strength: gains are in [1 - strength, 1 + strength], offsets within as many standard
            deviations.
        p: probability that an image is changed.

    >>> ChannelJitter()(torch.rand(13, 8, 8)).shape
    torch.Size([13, 8, 8])
    """

    def __init__(self, strength: float = 0.4, p: float = 0.8) -> None:
        self.strength = strength
        self.p = p

    def __call__(self, image: Tensor) -> Tensor:
        """An image (C, H, W) of floats with other gains and offsets."""
        if torch.rand(()) >= self.p:
            return image
        draws = 2 * torch.rand(2, len(image), 1, 1).to(image) - 1
        gain, offset = self.strength * draws
        std = image.std(dim=(1, 2), keepdim=True, correction=0)
        changed: Tensor = image * (1 + gain) + offset * std
        return changed

    def __repr__(self) -> str:
        return f"ChannelJitter(strength={self.strength}, p={self.p})"
