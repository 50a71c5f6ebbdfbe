"""Crops of one image in plain numbers, for a data set's transform, which gets one image at a time.

`CropSampler` decides for a whole batch at once. For one image nearly all of its time is the start
of some hundred operations on tensors of a few numbers: about as long as it takes to decode the
image. Here are the same boxes from the same draws, up to rounding.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import TypeVar

import torch

from sp_plugin.crops.sampler import CropSampler, rand_cpu
from sp_plugin.sizes import Size, height_and_width

__all__ = ["Box", "boxes_of_one_image", "resolution_of_one_image"]

Box = tuple[float, float, float, float]
"""Centre and sides, (cx, cy, w, h)."""

_Edges = tuple[float, float, float, float]  # left, top, right, bottom
_T = TypeVar("_T")


def boxes_of_one_image(sampler: CropSampler, generator: torch.Generator) -> list[Box]:
    """What ``sampler(1, generator)`` gives, from the same draws.

    Args:
        sampler: of the boxes.
        generator: private CPU generator; nothing else is drawn from.

    Returns:
        ``num_crops`` boxes, as fractions of the frame.

    >>> sampler = CropSampler(num_crops=4)
    >>> first, again = (torch.Generator().manual_seed(0) for _ in range(2))
    >>> boxes = torch.tensor(boxes_of_one_image(sampler, first))
    >>> torch.allclose(boxes, sampler(1, again)[:, 0])
    True
    """
    extra = sampler.num_crops - 2
    sizes = (3, 8 * sampler.tries, 4 * extra * sampler.tries, sampler.num_crops if extra else 0)
    # In the order of `CropSampler.draw_uniform`.
    draws = iter(rand_cpu(sum(sizes), generator=generator).tolist())
    (u_side, u_x, u_y), first_two, extra_crops, order = (list(islice(draws, n)) for n in sizes)
    edges, limit = _edges_maker(sampler), sampler.max_iou[1]
    first, second = _by_crop(first_two, 2)
    pairs = ([edges(*a), edges(*b)] for a, b in zip(first, second, strict=True))
    crops = _first_valid(pairs, lambda pair: _iou(*pair), limit)
    for uniforms in _by_crop(extra_crops, extra):
        tries = (edges(*uniform) for uniform in uniforms)
        crops.append(_first_valid(tries, lambda item: max(_iou(item, x) for x in crops), limit))
    if extra:
        crops = [crops[i] for i in sorted(range(len(crops)), key=order.__getitem__)]
    low, high = sampler.window
    side = low + (high - low) * u_side
    left, top = (1 - side) * u_x, (1 - side) * u_y
    return [
        (left + side * (a + c) / 2, top + side * (b + d) / 2, side * (c - a), side * (d - b))
        for a, b, c, d in crops
    ]


def resolution_of_one_image(boxes: Sequence[Box], size: Size, draw: float) -> tuple[int, int]:
    """What `sp_plugin.crops.resize.matched_resolution` gives for the crops of one image.

    Args:
        boxes: in pixels.
        size: of the crops in pixels: h = w of a square, or (h, w).
        draw: in [0, 1).

    Returns:
        Columns and rows.
    """
    height, width = height_and_width(size)
    share = 0.5 + 0.5 * draw
    columns = min(width, min(w for _, _, w, _ in boxes))
    rows = min(height, min(h for _, _, _, h in boxes))
    return max(1, int(columns * share)), max(1, int(rows * share))


def _by_crop(draws: list[float], crops: int) -> list[Iterable[tuple[float, ...]]]:
    """For each crop its tries, each of draws for area, aspect, x and y; of draws (4, crops, tries).

    >>> [list(tries) for tries in _by_crop(list(range(16)), 2)]
    [[(0, 4, 8, 12), (1, 5, 9, 13)], [(2, 6, 10, 14), (3, 7, 11, 15)]]
    """
    tries = len(draws) // 4 // max(1, crops)
    rows = [draws[start : start + tries] for start in range(0, len(draws), max(1, tries))]
    return [zip(*rows[crop::crops], strict=True) for crop in range(crops)]


def _edges_maker(sampler: CropSampler) -> Callable[..., _Edges]:
    """Function from the draws of a crop to its place in the window."""
    log_smallest, log_largest = (math.log(area) for area in sampler.crop_scale[1])
    log_narrow, log_wide = (math.log(ratio) for ratio in sampler.crop_ratio)
    of_width, of_height = min(1.0, sampler.box_ratio), min(1.0, 1 / sampler.box_ratio)

    def edges(u_area: float, u_ratio: float, u_x: float, u_y: float) -> _Edges:
        log_area = log_smallest + (log_largest - log_smallest) * u_area
        log_ratio = log_narrow + (log_wide - log_narrow) * u_ratio
        log_ratio = max(log_area, min(log_ratio, -log_area))
        width = math.exp((log_area + log_ratio) / 2) * of_width
        height = math.exp((log_area - log_ratio) / 2) * of_height
        left, top = (1 - width) * u_x, (1 - height) * u_y
        return left, top, left + width, top + height

    return edges


def _first_valid(tries: Iterable[_T], overlap: Callable[[_T], float], limit: float) -> _T:
    """The first try whose overlap is within the limit, else the first with the least overlap."""
    least, chosen = math.inf, None
    for item in tries:
        value = overlap(item)
        if value <= limit:
            return item
        if value < least:
            least, chosen = value, item
    assert chosen is not None
    return chosen


def _iou(a: _Edges, b: _Edges) -> float:
    left, top, right, bottom = a
    other_left, other_top, other_right, other_bottom = b
    width = min(right, other_right) - max(left, other_left)
    height = min(bottom, other_bottom) - max(top, other_top)
    if width <= 0 or height <= 0:
        return 0.0
    shared = width * height
    own = (right - left) * (bottom - top)
    return shared / (own + (other_right - other_left) * (other_bottom - other_top) - shared)
