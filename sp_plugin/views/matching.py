"""Which rows of which call of the student are which of the host's views: told by the pixels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor


class ViewRows(NamedTuple):
    """Where a view was encoded: in which call of the student, from which row on, and how far apart.

    Rows of one view stand together, or those of k views take turns: ``step`` is 1 or k.
    """

    call: int
    row: int
    step: int = 1

    def rows(self, batch: Tensor, count: int) -> Tensor:
        """The view's own ``count`` rows of what went into the call or came out of it."""
        return batch[self.row :: self.step][:count]


ViewAssignment = dict[int, ViewRows]  # by the view's number in the batch


def rows_equal(rows: Tensor, view: Tensor) -> Tensor:
    """Whether each row is the view's, pixel for pixel; nothing is waited for.

    Args:
        rows: (B, C, H, W), as the student was given them.
        view: (B, C, H, W), as the batch holds it.

    Returns:
        (B,), bool.

    >>> view = torch.rand(2, 3, 4, 4)
    >>> rows_equal(view.flip(0), view).tolist()
    [False, False]
    """
    if rows.data_ptr() == view.data_ptr() and rows.stride() == view.stride():
        return torch.ones(len(view), dtype=torch.bool, device=view.device)  # the view itself
    return (rows == view.to(rows)).flatten(1).all(dim=1)


def match_views(calls: list[Tensor], views: list[Tensor]) -> ViewAssignment:
    """Find the views among what the student was given; waits for the device.

    A host calls its student once for each view, or with several views of one size in one tensor:
    one after the other, or image by image.

    Args:
        calls: (N, C, H, W) each, in their order.
        views: (B, C, H, W) each.

    Returns:
        A slot for each view that is there, no slot for two.

    >>> a, b = torch.rand(2, 2, 3, 4, 4)
    >>> match([torch.cat([b, a])], [a, b])
    {0: ViewRows(call=0, row=2, step=1), 1: ViewRows(call=0, row=0, step=1)}
    >>> match([torch.stack([b, a], 1).flatten(0, 1)], [a, b])
    {0: ViewRows(call=0, row=1, step=2), 1: ViewRows(call=0, row=0, step=2)}
    """
    plan: ViewAssignment = {}
    for number, view in enumerate(views):
        free = (slot for slot in _slots(calls, view) if slot not in plan.values())
        found = (
            slot for slot in free if rows_equal(slot.rows(calls[slot.call], len(view)), view).all()
        )
        if (slot := next(found, None)) is not None:
            plan[number] = slot
    return plan


def _slots(calls: list[Tensor], view: Tensor) -> Iterator[ViewRows]:
    """Where a view of this shape may stand."""
    for call, images in enumerate(calls):
        if images.shape[1:] != view.shape[1:]:
            continue
        views, rest = divmod(len(images), len(view))
        yield from (ViewRows(call, row * len(view)) for row in range(views))
        if views > 1 and not rest and len(view) > 1:
            yield from (ViewRows(call, row, views) for row in range(views))


def smallest_views(plan: ViewAssignment, views: list[Tensor]) -> list[int]:
    """The numbers of the views of the smallest size of which the student encodes two or more.

    The local crops of a multi-crop host; the two views of another. None: an empty list.

    >>> views = [torch.rand(2, 3, side, side) for side in (8, 8, 4, 4, 4, 2)]
    >>> smallest_views(match(views, views), views)
    [2, 3, 4]
    """
    sizes = Counter(views[number].shape[-2:] for number in plan)
    several = [size for size, count in sizes.items() if count > 1]
    if not several:
        return []
    smallest = min(several, key=lambda size: size[0] * size[1])
    return [number for number in sorted(plan) if views[number].shape[-2:] == smallest]
