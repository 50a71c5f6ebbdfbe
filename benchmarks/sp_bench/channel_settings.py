"""Settings of channels: how many, how they are normalised, and which are drawn."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

from sp_bench.data.channel_stats import ChannelStats
from sp_bench.data.dataset import GREY, RGB
from sp_bench.errors import UsageError

CONVERTIBLE = (GREY.channels, RGB.channels)


class ChannelSettings(Protocol):
    """Settings that say how images are read, as `sp_bench.config.Settings` does."""

    @property
    def channels(self) -> int | None:
        """1 or 3, to which grey and RGB images are converted."""

    @property
    def mean(self) -> tuple[float, ...] | None:
        """Mean of each channel."""

    @property
    def std(self) -> tuple[float, ...] | None:
        """Standard deviation of each channel."""


def check_channel_settings(settings: ChannelSettings) -> None:
    """Check the settings on their own, before any image is read.

    Raises:
        UsageError: one cannot be used.
    """
    if settings.channels not in (None, *CONVERTIBLE):
        raise UsageError(
            f"channels: got {settings.channels}, takes 1 or 3, to which grey and RGB images are "
            "converted; other numbers are those of the data"
        )
    mean, std = settings.mean, settings.std
    if (mean is None) != (std is None):
        raise UsageError("mean: takes --mean and --std together, a number for each channel")
    if mean is None or std is None:
        return
    if len(mean) != len(std):
        raise UsageError(f"std: got {len(std)} numbers for {len(mean)} of mean, takes as many")
    if not all(map(math.isfinite, mean)):
        raise UsageError(f"mean: got {list(mean)}, takes finite numbers")
    if not all(0 < value < math.inf for value in std):
        raise UsageError(f"std: got {list(std)}, takes numbers above 0")


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


def given_stats(settings: ChannelSettings) -> ChannelStats | None:
    """Mean and standard deviation of each channel, if the settings have them."""
    if settings.mean is None or settings.std is None:
        return None
    return ChannelStats(tuple(settings.mean), tuple(settings.std))
