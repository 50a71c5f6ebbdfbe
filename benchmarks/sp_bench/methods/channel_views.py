"""lightly's transforms for images of other channels than RGB, and with other statistics."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

from lightly.transforms.gaussian_blur import GaussianBlur
from lightly.transforms.solarize import RandomSolarization
from torch import Tensor
from torchvision.transforms import v2

from sp_bench.data.channel_stats import IMAGENET, ChannelStats, to_unit
from sp_plugin.crops.colors import ChannelJitter

Views = Callable[[Any], list[Tensor]]


def adapt_views(transform: Views, stats: ChannelStats, has_colors: bool) -> Views:
    """A transform of lightly for images of any channels.

    Crops and flips stay. Images without colors get a gain and an offset for each channel in place
    of colour jitter, with its strength and probability, and the same blur; grayscale and
    solarisation are left out.

    Args:
        transform: a transform of lightly, which stays as it is.
        stats: mean and standard deviation of each channel.
        has_colors: whether the images are RGB or grey ones of PIL; else they are tensors.

    Returns:
        ``transform`` itself for RGB with ImageNet's statistics, else a changed copy.

    >>> import torch
    >>> from lightly.transforms import MAETransform
    >>> stats = ChannelStats((0.0,) * 13, (1.0,) * 13)
    >>> views = adapt_views(MAETransform(input_size=16), stats, has_colors=False)
    >>> views(torch.zeros(13, 20, 30))[0].shape
    torch.Size([13, 16, 16])
    """
    if has_colors and stats == IMAGENET:
        return transform
    adapted = copy.deepcopy(transform)
    normalize = v2.Normalize(list(stats.mean), list(stats.std))
    for chain in _chains(adapted):
        parts = [normalize if isinstance(part, v2.Normalize) else part for part in chain.transforms]
        if not has_colors:
            parts = [v2.Lambda(to_unit), *filter(None, map(_without_colors, parts))]
        chain.transforms[:] = parts
    return adapted


def _chains(transform: Any) -> Iterator[v2.Compose]:
    """The chain of each view, once where several views have the same."""
    views = getattr(transform, "transforms", [transform])
    yield from {id(view.transform): view.transform for view in views}.values()


def _without_colors(part: Any) -> Any:
    """A part of a chain for images without colors; None: it is left out."""
    if isinstance(part, GaussianBlur):
        low, high = part.sigmas
        kernel = 2 * max(1, round(2 * high)) + 1
        return v2.RandomApply([v2.GaussianBlur(kernel, (low, high))], p=part.prob)
    if isinstance(part, v2.RandomApply) and isinstance(part.transforms[0], v2.ColorJitter):
        return ChannelJitter(part.transforms[0].contrast[1] - 1, part.p)
    return None if isinstance(part, (v2.RandomGrayscale, RandomSolarization)) else part
