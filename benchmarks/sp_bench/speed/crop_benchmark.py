"""Crops: `crop_resize` beside the other ways to cut one box out of each image of a batch."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
import torchvision
from torch import Tensor
from torch.nn import functional as F
from torchvision.transforms.v2.functional import resized_crop

from sp_bench.speed.reference_resize import by_definition
from sp_bench.speed.settings import SpeedSettings
from sp_bench.speed.timing import Stopwatch, interleaved, repeated
from sp_plugin import SPConfig
from sp_plugin.crops.boxes import cxcywh_to_xyxy, xyxy_to_cxcywh
from sp_plugin.crops.resize import crop_resize
from sp_plugin.crops.sampler import rand_cpu
from sp_plugin.crops.sharpness import matched_resolution

OURS, EACH = "crop_resize", "torchvision resized_crop, one by one"
FRACTIONAL, SHARED = "crop_resize, fractional boxes", "crop_resize, through a shared resolution"
SLICES, PERSPECTIVE = "kornia RandomResizedCrop", "kornia crop_and_resize"
INDICES = "kornia crop_by_indices, antialias"
KORNIA = (SLICES, INDICES, PERSPECTIVE)
GRID, ROI = "grid_sample, no antialias", "torchvision roi_align"
MISSING = "kornia is not installed"

_SHAPES = ((64, 224, 96), (256, 224, 96), (64, 32, 16), (256, 32, 16))
_QUICK = ((4, 48, 16), (4, 32, 16))
_CALLS = 3  # in a turn
_EXACT = 8  # images that are cut by the definition, which is slow


class Boxes(NamedTuple):
    """One box for each image, as SP draws them.

    Attributes:
        edges: (B, 4), whole pixels (left, top, right, bottom), on the CPU.
        whole: (B, 4), the same as fractions (cx, cy, w, h), on the device.
        drawn: (B, 4), before they were rounded.
        resolution: (B, 2), to go through.
    """

    edges: Tensor
    whole: Tensor
    drawn: Tensor
    resolution: Tensor


def crop_jobs(settings: SpeedSettings) -> dict[str, Callable[[], dict[str, Any]]]:
    """A measurement for each batch, side and size."""
    return {
        f"batch {batch}, {side} to {size} px": partial(measure, batch, side, size, settings)
        for batch, side, size in (_QUICK if settings.quick else _SHAPES)
    }


def measure(batch: int, side: int, size: int, settings: SpeedSettings) -> dict[str, Any]:
    """Time every way on the same images and boxes, and compare what they give.

    The images are noise, on which a filter's faults are largest.

    Returns:
        ``seconds``, rounds by way; ``errors``, by way on whole-pixel boxes, ``max`` and ``mean``
        difference from torchvision's antialiased crop where the image's range is 1;
        ``fractional_errors``, the same on the boxes as drawn, from the filter's definition;
        ``missing``, ways that could not be tried, and why.
    """
    images = torch.rand(batch, 3, side, side, generator=torch.Generator().manual_seed(0))
    images = images.to(settings.target)
    boxes = draw_boxes(batch, side, size, settings.target)
    ways = all_ways(images, boxes, size)
    reference = ways[EACH]()
    errors = {
        name: _error(way(), reference)
        for name, way in ways.items()
        if name not in (EACH, FRACTIONAL, SHARED)
    }
    watch = Stopwatch(settings.target)
    arms = {name: repeated(way, _CALLS, watch) for name, way in ways.items()}
    return {
        "seconds": interleaved(arms, settings.repeats),
        "errors": errors,
        "fractional_errors": _fractional_errors(images[:_EXACT], boxes.drawn[:_EXACT], size),
        "missing": {name: MISSING for name in KORNIA if name not in ways},
    }


def draw_boxes(batch: int, side: int, size: int, device: torch.device) -> Boxes:
    """Boxes as SP draws them by default in frames of ``side`` pixels."""
    config = SPConfig().resolve(side)
    generator = torch.Generator().manual_seed(0)
    drawn = config.build_sampler()(batch, generator)
    first = drawn[0]
    edges = (cxcywh_to_xyxy(first) * side).round().int().clamp(0, side)
    numbers = rand_cpu(batch, 1, generator=generator)
    grid = matched_resolution(drawn[..., 2:] * side, size, numbers)
    whole = xyxy_to_cxcywh(edges.double() / side).float()
    return Boxes(edges, whole.to(device), first.to(device), grid.to(device))


def all_ways(images: Tensor, boxes: Boxes, size: int) -> dict[str, Callable[[], Tensor]]:
    """Every way to cut, ready to be called; each gives (B, 3, size, size)."""
    edges = boxes.edges.to(images.device)
    return {
        OURS: partial(crop_resize, images, boxes.whole, size),
        FRACTIONAL: partial(crop_resize, images, boxes.drawn, size),
        SHARED: partial(crop_resize, images, boxes.drawn, size, boxes.resolution),
        EACH: partial(one_by_one, images, boxes.edges.tolist(), size),
        **_kornia(images, boxes.edges, size),
        GRID: partial(grid_sampled, images, boxes.whole, size),
        ROI: partial(roi_aligned, images, edges, size),
    }


def one_by_one(images: Tensor, edges: list[list[int]], size: int) -> Tensor:
    """torchvision's antialiased crop, image by image."""
    crops = [
        resized_crop(image, top, left, bottom - top, right - left, [size, size], antialias=True)
        for image, (left, top, right, bottom) in zip(images, edges, strict=True)
    ]
    return torch.stack(crops)


def grid_sampled(images: Tensor, boxes: Tensor, size: int) -> Tensor:
    """Bilinear samples at the centres of the crop's pixels: what is finer than these aliases."""
    zero = torch.zeros_like(boxes[:, 0])
    x, y, w, h = boxes.unbind(1)
    theta = torch.stack([w, zero, 2 * x - 1, zero, h, 2 * y - 1], dim=1).view(-1, 2, 3)
    shape = [len(boxes), images.shape[1], size, size]
    grid = F.affine_grid(theta, shape, align_corners=False)
    return F.grid_sample(images, grid, mode="bilinear", align_corners=False)


def roi_aligned(images: Tensor, edges: Tensor, size: int) -> Tensor:
    """Means of bilinear samples, as many as the crop is larger than its output."""
    rows = torch.arange(len(edges), device=edges.device)[:, None]
    rois = torch.cat([rows, edges], dim=1).float()
    crops: Tensor = torchvision.ops.roi_align(images, rois, size, aligned=True)
    return crops


def _kornia(images: Tensor, edges: Tensor, size: int) -> dict[str, Callable[[], Tensor]]:
    """kornia's ways, with its own defaults; none where it is not installed."""
    try:
        from kornia.augmentation import RandomResizedCrop
        from kornia.geometry import crop_and_resize, crop_by_indices
    except ImportError:
        return {}
    left, top, right, bottom = edges.unbind(1)
    # Its corners are those of pixels, the last one counted: clockwise from the upper left.
    last = [right - 1, bottom - 1]
    points = [(left, top), (last[0], top), (last[0], last[1]), (left, last[1])]
    quads = torch.stack([torch.stack(point, dim=1) for point in points], dim=1)
    shape = (size, size)
    slices = RandomResizedCrop(shape)
    # On the CPU, where it draws them itself: slicing takes them as numbers.
    given = {**slices.forward_parameters(images.shape), "src": quads.float()}
    return {
        SLICES: partial(slices, images, params=given),
        INDICES: partial(crop_by_indices, images, quads, shape, antialias=True),
        PERSPECTIVE: partial(crop_and_resize, images, quads.to(images), shape),
    }


def _fractional_errors(images: Tensor, boxes: Tensor, size: int) -> dict[str, dict[str, float]]:
    edges = cxcywh_to_xyxy(boxes) * images.shape[-1]
    reference = by_definition(images, edges, size)
    crops = {
        FRACTIONAL: crop_resize(images, boxes, size),
        GRID: grid_sampled(images, boxes, size),
        ROI: roi_aligned(images, edges, size),
    }
    return {name: _error(each, reference) for name, each in crops.items()}


def _error(crops: Tensor, reference: Tensor) -> dict[str, float]:
    away = (crops - reference).abs()
    return {"max": float(away.max()), "mean": float(away.mean())}
