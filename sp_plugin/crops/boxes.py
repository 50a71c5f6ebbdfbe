"""Boxes: (cx, cy, w, h), centre and sides as fractions of a frame's width and height, float32.

A batch of boxes has shape (..., 4).
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = [
    "FULL_IMAGE",
    "box_area",
    "cxcywh_to_xyxy",
    "paired_iou",
    "to_parent_frame",
    "xyxy_to_cxcywh",
]

FULL_IMAGE = (0.5, 0.5, 1.0, 1.0)


def box_area(boxes: Tensor) -> Tensor:
    """Area of each box as a fraction of the frame's, shape (...).

    >>> box_area(torch.tensor([0.5, 0.5, 0.5, 0.25])).item()
    0.125
    """
    return boxes[..., 2] * boxes[..., 3]


def cxcywh_to_xyxy(boxes: Tensor) -> Tensor:
    """(cx, cy, w, h) to (left, top, right, bottom), shape (..., 4).

    >>> cxcywh_to_xyxy(torch.tensor([0.5, 0.5, 0.5, 0.25])).tolist()
    [0.25, 0.375, 0.75, 0.625]
    """
    centre, half = boxes[..., :2], boxes[..., 2:] / 2
    return torch.cat([centre - half, centre + half], dim=-1)


def xyxy_to_cxcywh(edges: Tensor) -> Tensor:
    """(left, top, right, bottom) to (cx, cy, w, h), shape (..., 4).

    >>> xyxy_to_cxcywh(torch.tensor([0.25, 0.375, 0.75, 0.625])).tolist()
    [0.5, 0.5, 0.5, 0.25]
    """
    low, high = edges[..., :2], edges[..., 2:]
    return torch.cat([(low + high) / 2, high - low], dim=-1)


def paired_iou(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union of boxes a and b, pair by pair, in [0, 1], shape (...).

    >>> box = torch.tensor([0.25, 0.25, 0.5, 0.5])
    >>> paired_iou(box, box).item(), paired_iou(box, box + torch.tensor([0.5, 0, 0, 0])).item()
    (1.0, 0.0)
    """
    edges_a, edges_b = cxcywh_to_xyxy(a), cxcywh_to_xyxy(b)
    low = torch.maximum(edges_a[..., :2], edges_b[..., :2])
    high = torch.minimum(edges_a[..., 2:], edges_b[..., 2:])
    shared = (high - low).clamp_min(0).prod(dim=-1)
    return shared / (box_area(a) + box_area(b) - shared)


def to_parent_frame(boxes: Tensor, window: Tensor) -> Tensor:
    """Boxes in a window's frame, converted to the frame that holds the window.

    Args:
        boxes: (..., 4), fractions of the window.
        window: (..., 4), fractions of the parent frame.

    Returns:
        (..., 4), fractions of the parent frame.

    >>> window = torch.tensor([0.25, 0.75, 0.5, 0.5])
    >>> to_parent_frame(torch.tensor(FULL_IMAGE), window).tolist()
    [0.25, 0.75, 0.5, 0.5]
    """
    low = window[..., :2] - window[..., 2:] / 2
    return torch.cat([low + boxes[..., :2] * window[..., 2:], boxes[..., 2:] * window[..., 2:]], -1)
