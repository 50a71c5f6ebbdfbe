"""Images of any channels as RGB, to be looked at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sp_bench.errors import UsageError

_SENTINEL_2 = (12, 13)  # counts of its bands, in the order of their names: red is B4, index 3
_STRETCH = (0.02, 0.98)  # quantiles that become black and white
_MAX_VALUES = 1_000_000  # that quantiles are taken of


@dataclass(frozen=True)
class RGBDisplay:
    """Three channels of images as red, green and blue, with one range for all images.

    Images of uint8 keep their values. For others the range of each channel is from its 2nd to its
    98th percentile over the images that it was fitted on.

    Attributes:
        triple: channels, counted from 0.
        low: (3, 1, 1), values that become 0.
        high: (3, 1, 1), values that become 1.
    """

    triple: tuple[int, int, int]
    low: Tensor
    high: Tensor

    @classmethod
    def fit(cls, images: Tensor, triple: Sequence[int] | None = None) -> RGBDisplay:
        """Display of these images.

        Args:
            images: (N, C, H, W), uint8 or float, finite.
            triple: three channels, counted from 0; None: as for `default_triple`.

        >>> images = torch.rand(2, 13, 8, 8)
        >>> RGBDisplay.fit(images).triple, RGBDisplay.fit(images)(images).shape
        ((3, 2, 1), torch.Size([2, 3, 8, 8]))
        """
        r, g, b = default_triple(images.shape[1]) if triple is None else triple
        if images.dtype == torch.uint8:
            return cls((r, g, b), torch.zeros(3, 1, 1), torch.ones(3, 1, 1))
        values = images[:, [r, g, b]].transpose(0, 1).flatten(1).float()
        values = values[:, :: -(-values.shape[1] // _MAX_VALUES)]
        low, high = values.quantile(torch.tensor(_STRETCH), dim=1).view(2, 3, 1, 1)
        return cls((r, g, b), low, high.maximum(low + 1e-6))

    def __call__(self, images: Tensor) -> Tensor:
        """RGB of images (..., C, H, W): uint8 of uint8, else float in [0, 1] (..., 3, H, W)."""
        images = images[..., list(self.triple), :, :]
        if images.dtype == torch.uint8:
            return images
        return ((images - self.low) / (self.high - self.low)).clamp(0, 1)

    def to_uint8(self, images: Tensor) -> Tensor:
        """As calling it, but always uint8."""
        shown = self(images)
        return shown if shown.dtype == torch.uint8 else (shown * 255).round().to(torch.uint8)


def default_triple(channels: int) -> tuple[int, int, int]:
    """Channels to show: red, green and blue of Sentinel-2's 12 or 13 bands, else the first three.

    >>> default_triple(13), default_triple(4), default_triple(2), default_triple(1)
    ((3, 2, 1), (0, 1, 2), (0, 1, 1), (0, 0, 0))
    """
    if channels in _SENTINEL_2:
        return 3, 2, 1
    r, g, b = (min(index, channels - 1) for index in range(3))
    return r, g, b


def check_rgb(rgb: Sequence[int] | None, channels: int) -> None:
    """Check the channels that are to be drawn.

    Raises:
        UsageError: they are not three, or the images have fewer channels.

    >>> check_rgb((3, 2, 1), 3)
    Traceback (most recent call last):
    sp_bench.errors.UsageError: rgb: got 3 2 1, takes three channels from 0 to 2
    """
    if rgb is not None and (len(rgb) != 3 or not all(0 <= index < channels for index in rgb)):
        got = " ".join(map(str, rgb))
        raise UsageError(f"rgb: got {got}, takes three channels from 0 to {channels - 1}")
