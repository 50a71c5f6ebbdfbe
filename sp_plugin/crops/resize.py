"""crop_resize: many boxes cut out of many images and resized, antialiased, in one go.

Resizing with an antialiased bilinear filter is linear in the pixels and separable: each crop is
``rows @ image @ columns.T``, where ``rows`` (size, H) and ``columns`` (size, W) hold the filter's
weights. So a batch is two batched matrix products, exact, differentiable in the images, on any
device and without a loop; boxes need not lie on whole pixels. It compiles without a graph break.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from sp_plugin.crops.boxes import cxcywh_to_xyxy

# Above this many pixels a CPU is faster with each crop cut out first: 9 ms instead of 21 for 64
# crops of 224 px to 96, but 1.7 instead of 1.0 for 64 px to 32. The weights are the same.
_DENSE_PIXELS_ON_CPU = 72 * 72


def crop_resize(
    images: Tensor, boxes: Tensor, size: int, resolution: Tensor | None = None
) -> Tensor:
    """Cut one box out of each image and resize it to ``size`` x ``size``, antialiased.

    On whole-pixel boxes it equals torchvision's ``resized_crop(antialias=True)`` (bilinear)
    up to rounding. Pixels at the edge of a box count by how much of them the box covers.

    Args:
        images: (B, C, H, W), floating point. Differentiable.
        boxes: (B, 4), (cx, cy, w, h) as fractions of the image, inside it.
        size: side of the crops in pixels.
        resolution: (B, 2) or None. Each crop is resized to this many pixels (x, y) first, whole
            numbers from 1 to ``size``, and from there to ``size``: it then holds no more detail
            than a crop of that native resolution.

    Returns:
        (B, C, size, size), in the images' dtype and memory format.

    Raises:
        ValueError: images and boxes do not fit each other.

    >>> crop_resize(torch.rand(2, 3, 64, 64), torch.tensor([[0.5, 0.5, 0.25, 0.5]] * 2), 32).shape
    torch.Size([2, 3, 32, 32])
    """
    if images.ndim != 4 or boxes.shape != (images.shape[0], 4):
        raise ValueError(
            f"crop_resize: takes images (B, C, H, W) and boxes (B, 4), "
            f"got {tuple(images.shape)} and {tuple(boxes.shape)}"
        )
    height, width = images.shape[-2:]
    # float32 at least: half precision would cost more than the 1/255 that is promised.
    precision = torch.float64 if images.dtype == torch.float64 else torch.float32
    pixels = images.to(precision)
    edges = cxcywh_to_xyxy(boxes.to(images.device, precision))
    # (B, 2): left, right in pixels. Rounding must not take a box past the last of them.
    x = (edges[:, 0::2] * width).clamp(0, width)
    y = (edges[:, 1::2] * height).clamp(0, height)
    grids = (None, None) if resolution is None else resolution.to(x).unbind(1)
    with torch.autocast(images.device.type, enabled=False):
        large = images.device.type == "cpu" and height * width > _DENSE_PIXELS_ON_CPU
        large &= not torch.compiler.is_compiling()  # where to cut is not known in a graph
        if large and resolution is None and _is_pixel_aligned(x, y):
            out = _interpolate_each(pixels, x, y, size)
        elif large:
            out = _cut_then_resize(pixels, x, y, size, grids)
        else:
            start = torch.zeros_like(x[:, 0])
            columns = _resize_weights(x, start, width, size, grids[0])
            rows = _resize_weights(y, start, height, size, grids[1])
            out = _resize(pixels, rows, columns)
    channels_last = images.is_contiguous(memory_format=torch.channels_last)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    return out.to(images.dtype, memory_format=layout)


def _resize(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    batch, channels, height, width = images.shape
    # One product for all channels of an image; columns first, they are contiguous in memory.
    narrow = torch.bmm(images.reshape(batch, channels * height, width), columns.transpose(1, 2))
    return torch.matmul(rows.unsqueeze(1), narrow.view(batch, channels, height, -1))


def _is_pixel_aligned(*spans: Tensor) -> bool:
    """Whether all begin and end on whole pixels; on the CPU, where to look costs no waiting."""
    return all(bool(((span - span.round()).abs() < 1e-3).all()) for span in spans)


def _interpolate_each(images: Tensor, x: Tensor, y: Tensor, size: int) -> Tensor:
    """torch's own filter, which is the fastest there is on a CPU but knows whole pixels only."""
    cuts = torch.cat([x, y], dim=1).round().int().tolist()
    crops = [
        F.interpolate(
            image[None, :, top:bottom, left:right], (size, size), mode="bilinear", antialias=True
        )
        for image, (left, right, top, bottom) in zip(images, cuts, strict=True)
    ]
    return torch.cat(crops)


def _cut_then_resize(
    images: Tensor, x: Tensor, y: Tensor, size: int, grids: tuple[Tensor | None, ...]
) -> Tensor:
    height, width = images.shape[-2:]
    (x0, x1), (y0, y1) = _covered_pixels(x, width), _covered_pixels(y, height)
    columns = _resize_weights(x, x0, int((x1 - x0).max()), size, grids[0])
    rows = _resize_weights(y, y0, int((y1 - y0).max()), size, grids[1])
    cuts = torch.stack([x0, x1, y0, y1], dim=1).int().tolist()
    crops = [
        row[:, : bottom - top] @ (image[:, top:bottom, left:right] @ column[:, : right - left].T)
        for image, row, column, (left, right, top, bottom) in zip(
            images, rows, columns, cuts, strict=True
        )
    ]
    return torch.stack(crops)


def _covered_pixels(span: Tensor, length: int) -> tuple[Tensor, Tensor]:
    """First pixel that a span (B, 2) touches, and the one after the last, each (B,)."""
    return span[:, 0].floor().clamp(0, length - 1), span[:, 1].ceil().clamp(1, length)


def _resize_weights(
    span: Tensor, start: Tensor, count: int, size: int, grid: Tensor | None
) -> Tensor:
    """Weights of ``count`` input pixels, from ``start`` (B,) on, in ``size`` output pixels.

    Args:
        span: (B, 2), where the crop begins and ends along this axis, in pixels.
        start, count: which input pixels.
        size: how many output pixels.
        grid: (B,) or None, the resolution to go through.

    Returns:
        (B, size, count), each row's sum 1.
    """
    span = span - start[:, None]
    if grid is None:
        return _triangle_filter(span, count, size, torch.full_like(start, size))
    down = _triangle_filter(span, count, size, grid)  # rows from ``grid`` on stand for nothing ...
    up = _triangle_filter(
        torch.stack([torch.zeros_like(grid), grid], 1), size, size, torch.full_like(grid, size)
    )
    return torch.bmm(up, down)  # ... and count for nothing here


def _triangle_filter(span: Tensor, count: int, size: int, bins: Tensor) -> Tensor:
    """Weights (B, size, count) of an antialiased resize of each span (B, 2) to ``bins`` (B,).

    A triangle as wide as the coarser of an input pixel and an output pixel, the rule of torch's
    ``interpolate(antialias=True)``; times how much of the input pixel the span covers.
    """
    low, high = span[:, :1], span[:, 1:]
    step = (high - low) / bins[:, None]
    reach = step.clamp_min(1.0)
    outputs = torch.arange(size, device=span.device, dtype=span.dtype) + 0.5
    pixels = torch.arange(count, device=span.device, dtype=span.dtype)
    centres = (low + step * outputs) / reach
    covered = (torch.minimum(pixels + 1, high) - torch.maximum(pixels, low)).clamp(0, 1)
    # In place: these tensors are larger than the crops, and a pass over them costs as much.
    away = (centres.unsqueeze(2) - ((pixels + 0.5) / reach).unsqueeze(1)).abs_()
    weights = torch.sub(1, away, out=away).clamp_min_(0).mul_(covered.unsqueeze(1))
    return weights.div_(weights.sum(dim=2, keepdim=True).clamp_min_(1e-6))
