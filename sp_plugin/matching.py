"""Which rows of which call of the student are which of the host's views: told by the pixels."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

import torch
from torch import Tensor


class Slot(NamedTuple):
    """Where a view was encoded: in which call of the student, and from which row on."""

    call: int
    row: int


Plan = dict[int, Slot]  # by the view's number in the batch


def same_rows(images: Tensor, view: Tensor, row: int = 0) -> Tensor:
    """Whether each row from ``row`` on is the view's, pixel for pixel; nothing is waited for.

    Args:
        images: (N, C, H, W), as the student was given them.
        view: (B, C, H, W), as the batch holds it.
        row: 0 to N - B.

    Returns:
        (B,), bool.

    >>> view = torch.rand(2, 3, 4, 4)
    >>> same_rows(torch.cat([view, view.flip(0)]), view, 2).tolist()
    [False, False]
    """
    rows = images[row : row + len(view)]
    if rows.data_ptr() == view.data_ptr() and rows.stride() == view.stride():
        return torch.ones(len(view), dtype=torch.bool, device=view.device)  # the view itself
    return (rows == view.to(rows)).flatten(1).all(dim=1)


def match(calls: list[Tensor], views: list[Tensor]) -> Plan:
    """Find the views among what the student was given; waits for the device.

    A host calls its student once for each view, or with several views of one size in one tensor.

    Args:
        calls: (N, C, H, W) each, in their order.
        views: (B, C, H, W) each.

    Returns:
        A slot for each view that is there, no slot for two.

    >>> a, b = torch.rand(2, 2, 3, 4, 4)
    >>> match([torch.cat([b, a])], [a, b])
    {0: Slot(call=0, row=2), 1: Slot(call=0, row=0)}
    """
    plan: Plan = {}
    for number, view in enumerate(views):
        free = (
            Slot(call, row)
            for call, images in enumerate(calls)
            if images.shape[1:] == view.shape[1:]
            for row in range(0, len(images) - len(view) + 1, len(view))
            if Slot(call, row) not in plan.values()
        )
        found = (slot for slot in free if same_rows(calls[slot.call], view, slot.row).all())
        if (slot := next(found, None)) is not None:
            plan[number] = slot
    return plan


def most_local(plan: Plan, views: list[Tensor]) -> list[int]:
    """The numbers of the views of the smallest size of which the student encodes two or more.

    The local crops of a multi-crop host; the two views of another. None: an empty list.

    >>> views = [torch.rand(2, 3, side, side) for side in (8, 8, 4, 4, 4, 2)]
    >>> most_local(match(views, views), views)
    [2, 3, 4]
    """
    sizes = Counter(views[number].shape[-2:] for number in plan)
    several = [size for size, count in sizes.items() if count > 1]
    if not several:
        return []
    smallest = min(several, key=lambda size: size[0] * size[1])
    return [number for number in sorted(plan) if views[number].shape[-2:] == smallest]
