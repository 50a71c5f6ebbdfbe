"""Calls of the student: the images and the output of each, also of several views in one call.

A student takes a tensor (B, C, H, W), or a list of tensors of several sizes and gives a list of
outputs (DINOv2, DINOv3), or one tensor of all their rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sp_plugin.features.layout import feature_tensors

__all__ = ["StudentCall", "calls_of", "set_output"]


@dataclass
class StudentCall:
    """Input and output of one call of the student, or of one of several views in a call.

    Attributes:
        images: (N, C, H, W).
        is_masked: whether the method masks patches of them, so that the features are not theirs.
        output: what the student, or the layer, gives for them; None where it was not reached.
    """

    images: Tensor
    is_masked: bool = False
    output: Any = None


def calls_of(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[StudentCall]:
    """What a call of the student takes, without its output.

    Args:
        args: arguments; images are the first of them that is a tensor (N, C, H, W), or a list of
            such tensors.
        kwargs: likewise. A mask is a boolean tensor (N, ...), or a list of them and of None.

    Returns:
        One entry for each tensor of images; one with an empty tensor where there are none.

    >>> images = [torch.rand(2, 3, 8, 8), torch.rand(4, 3, 4, 4)]
    >>> [call.is_masked for call in calls_of((images,), {"masks": [torch.ones(2, 4) > 0, None]})]
    [True, False]
    """
    inputs = (*args, *kwargs.values())
    images = next(filter(None, map(_images_in, inputs)), [torch.empty(0)])
    is_masked = [False] * len(images)
    for item in inputs:
        masks = list(item) if isinstance(item, (list, tuple)) else [item]
        if len(masks) == len(images):
            pairs = zip(is_masked, masks, images, strict=True)
            is_masked = [known or _is_mask(mask, one) for known, mask, one in pairs]
    return [StudentCall(*pair) for pair in zip(images, is_masked, strict=True)]


def set_output(calls: list[StudentCall], output: Any) -> None:
    """Set the output of the calls that one call of the student has become.

    Args:
        calls: from `calls_of`.
        output: of the student or of one of its layers, which may run once for all of them or once
            for each in their order.
    """
    counts = [len(call.images) for call in calls]
    if len(calls) == 1:
        calls[0].output = output
    elif isinstance(output, Tensor) and len(output) == sum(counts):
        for call, rows in zip(calls, torch.split(output, counts), strict=True):
            call.output = rows
    elif _is_parallel(output, counts):
        for call, part in zip(calls, output, strict=True):
            call.output = part
    else:
        for call in [call for call in calls if call.output is None][:1]:
            call.output = output


def _images_in(item: Any) -> list[Tensor]:
    items = list(item) if isinstance(item, (list, tuple)) else [item]
    return items if all(isinstance(one, Tensor) and one.ndim == 4 for one in items) else []


def _is_mask(mask: Any, images: Tensor) -> bool:
    is_bool = isinstance(mask, Tensor) and mask.dtype == torch.bool
    return bool(is_bool and mask.ndim > 1 and len(mask) == len(images))


def _is_parallel(output: Any, counts: list[int]) -> bool:
    """Whether an output is a list of the outputs for images of these numbers of rows."""
    if not isinstance(output, (list, tuple)) or len(output) != len(counts):
        return False
    rows = [[len(tensor) for tensor in feature_tensors(part)][:1] for part in output]
    return rows == [[count] for count in counts]
