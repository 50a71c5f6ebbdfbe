"""Cropping: `crop_resize` and other functions that cut one box out of each image of a batch."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
import torchvision
from torch import Tensor
from torch.nn import functional as F
from torchvision.transforms.v2.functional import resized_crop

from sp_bench.speed.settings import SpeedSettings
from sp_bench.speed.timing import interleaved, timed
from sp_plugin import SPConfig
from sp_plugin.crops.boxes import cxcywh_to_xyxy, xyxy_to_cxcywh
from sp_plugin.crops.resize import crop_resize, matched_resolution
from sp_plugin.crops.sampler import rand_cpu

OURS, ONE_BY_ONE = "crop_resize", "torchvision resized_crop, one by one"
FRACTIONAL, SHARED = "crop_resize, fractional boxes", "crop_resize, through a shared resolution"
SLICES, PERSPECTIVE = "kornia RandomResizedCrop", "kornia crop_and_resize"
INDICES = "kornia crop_by_indices, antialias"
KORNIA = (SLICES, INDICES, PERSPECTIVE)
GRID, ROI = "grid_sample, no antialias", "torchvision roi_align"
MISSING = "kornia is not installed"

_SHAPES = ((64, 224, 96), (256, 224, 96), (64, 32, 16), (256, 32, 16))
_QUICK = ((4, 48, 16), (4, 32, 16))
_CALLS = 3  # per round


class SampledBoxes(NamedTuple):
    """One box per image, as SP samples them.

    Attributes:
        edges: (B, 4), left, top, right, bottom in whole pixels, on the CPU.
        rounded: (B, 4), the same boxes as fractions (cx, cy, w, h), on the device.
        sampled: (B, 4), boxes before rounding.
        resolution: (B, 2), shared resolution of the crops in pixels.
    """

    edges: Tensor
    rounded: Tensor
    sampled: Tensor
    resolution: Tensor


def crop_jobs(settings: SpeedSettings) -> dict[str, Callable[[], dict[str, Any]]]:
    """One measurement per batch size, image size and crop size."""
    return {
        f"batch {batch}, {side} to {size} px": partial(measure, batch, side, size, settings)
        for batch, side, size in (_QUICK if settings.quick else _SHAPES)
    }


def measure(batch: int, side: int, size: int, settings: SpeedSettings) -> dict[str, Any]:
    """Time all functions on the same images and boxes, and compare their crops.

    The images are noise, for which the errors of a filter are largest.

    Returns:
        ``seconds`` by function and round; ``errors`` by function on whole-pixel boxes: ``max`` and
        ``mean`` difference from torchvision's antialiased crop, for images in [0, 1]; ``missing``:
        functions that are not available, with the reason.
    """
    images = torch.rand(batch, 3, side, side, generator=torch.Generator().manual_seed(0))
    images = images.to(settings.target)
    boxes = sample_boxes(batch, side, size, settings.target)
    functions = all_functions(images, boxes, size)
    reference = functions[ONE_BY_ONE]()
    differences = {
        name: (crop() - reference).abs()
        for name, crop in functions.items()
        if name not in (ONE_BY_ONE, FRACTIONAL, SHARED)
    }
    arms = {name: timed(crop, _CALLS) for name, crop in functions.items()}
    return {
        "seconds": interleaved(arms, settings.repeats),
        "errors": {
            name: {"max": float(difference.max()), "mean": float(difference.mean())}
            for name, difference in differences.items()
        },
        "missing": {name: MISSING for name in KORNIA if name not in functions},
    }


def sample_boxes(batch: int, side: int, size: int, device: torch.device) -> SampledBoxes:
    """Boxes as SP samples them by default in images of ``side`` pixels."""
    config = SPConfig().resolve(side)
    generator = torch.Generator().manual_seed(0)
    boxes = config.build_sampler()(batch, generator)
    edges = (cxcywh_to_xyxy(boxes[0]) * side).round().int().clamp(0, side)
    draws = rand_cpu(batch, 1, generator=generator)
    resolution = matched_resolution(boxes[..., 2:] * side, size, draws)
    rounded = xyxy_to_cxcywh(edges.double() / side).float()
    return SampledBoxes(edges, rounded.to(device), boxes[0].to(device), resolution.to(device))


def all_functions(
    images: Tensor, boxes: SampledBoxes, size: int
) -> dict[str, Callable[[], Tensor]]:
    """All functions by name, with their arguments filled in; they return (B, 3, size, size)."""
    edges = boxes.edges.to(images.device)
    return {
        OURS: partial(crop_resize, images, boxes.rounded, size),
        FRACTIONAL: partial(crop_resize, images, boxes.sampled, size),
        SHARED: partial(crop_resize, images, boxes.sampled, size, boxes.resolution),
        ONE_BY_ONE: partial(one_by_one, images, boxes.edges.tolist(), size),
        **_kornia(images, boxes.edges, size),
        GRID: partial(grid_sampled, images, boxes.rounded, size),
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
    """Bilinear samples at the centres of the crop's pixels, with aliasing of finer detail."""
    zero = torch.zeros_like(boxes[:, 0])
    x, y, w, h = boxes.unbind(1)
    theta = torch.stack([w, zero, 2 * x - 1, zero, h, 2 * y - 1], dim=1).view(-1, 2, 3)
    shape = [len(boxes), images.shape[1], size, size]
    grid = F.affine_grid(theta, shape, align_corners=False)
    return F.grid_sample(images, grid, mode="bilinear", align_corners=False)


def roi_aligned(images: Tensor, edges: Tensor, size: int) -> Tensor:
    """Means of bilinear samples, whose number is the ratio of box size and crop size."""
    rows = torch.arange(len(edges), device=edges.device)[:, None]
    rois = torch.cat([rows, edges], dim=1).float()
    crops: Tensor = torchvision.ops.roi_align(images, rois, size, aligned=True)
    return crops


def _kornia(images: Tensor, edges: Tensor, size: int) -> dict[str, Callable[[], Tensor]]:
    """kornia's functions with their defaults; empty if it is not installed."""
    try:
        from kornia.augmentation import RandomResizedCrop
        from kornia.geometry import crop_and_resize, crop_by_indices
    except ImportError:
        return {}
    left, top, right, bottom = edges.unbind(1)
    # kornia's corners are pixels, the last one included, clockwise from the upper left.
    last = [right - 1, bottom - 1]
    points = [(left, top), (last[0], top), (last[0], last[1]), (left, last[1])]
    quads = torch.stack([torch.stack(point, dim=1) for point in points], dim=1)
    shape = (size, size)
    slices = RandomResizedCrop(shape)
    # On the CPU, where kornia itself draws them: slicing uses them as numbers.
    parameters = {**slices.forward_parameters(images.shape), "src": quads.float()}
    return {
        SLICES: partial(slices, images, params=parameters),
        INDICES: partial(crop_by_indices, images, quads, shape, antialias=True),
        PERSPECTIVE: partial(crop_and_resize, images, quads.to(images), shape),
    }
