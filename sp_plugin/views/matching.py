"""Matching: which rows of which call of the student are which of the method's views, by pixels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["ViewAssignment", "ViewRows", "match_views", "rows_equal", "smallest_views"]


class ViewRows(NamedTuple):
    """Rows of one view in a call of the student.

    Attributes:
        call: index of the call.
        start: first row.
        step: 1 where the rows of a view stand together, k where those of k views alternate.
    """

    call: int
    start: int
    step: int = 1

    def select(self, batch: Tensor, count: int) -> Tensor:
        """The view's ``count`` rows of the call's input or output."""
        return batch[self.start :: self.step][:count]


ViewAssignment = dict[int, ViewRows]
"""Rows of each view that the student encodes, by the view's index in the batch."""


def rows_equal(rows: Tensor, view: Tensor) -> Tensor:
    """Whether each row equals the view's, pixel for pixel; the device is not synchronised.

    Args:
        rows: (B, C, H, W), input of the student.
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
    """Find the views among the inputs of the student; synchronises the device.

    A method calls its student once for each view, or with several views of one size in one tensor:
    one after the other, or image by image.

    Args:
        calls: (N, C, H, W) each, inputs of the student in their order.
        views: (B, C, H, W) each.

    Returns:
        Rows of each view that was found; no rows belong to two views.

    >>> a, b = torch.rand(2, 2, 3, 4, 4)
    >>> match_views([torch.cat([b, a])], [a, b])
    {0: ViewRows(call=0, start=2, step=1), 1: ViewRows(call=0, start=0, step=1)}
    >>> match_views([torch.stack([b, a], 1).flatten(0, 1)], [a, b])
    {0: ViewRows(call=0, start=1, step=2), 1: ViewRows(call=0, start=0, step=2)}
    """
    assignment: ViewAssignment = {}
    for index, view in enumerate(views):
        for rows in _candidate_rows(calls, view):
            is_free = rows not in assignment.values()
            if is_free and rows_equal(rows.select(calls[rows.call], len(view)), view).all():
                assignment[index] = rows
                break
    return assignment


def _candidate_rows(calls: list[Tensor], view: Tensor) -> Iterator[ViewRows]:
    """Rows where a view of this shape can be."""
    for call, images in enumerate(calls):
        if images.shape[1:] != view.shape[1:]:
            continue
        num_views, rest = divmod(len(images), len(view))
        yield from (ViewRows(call, n * len(view)) for n in range(num_views))
        if num_views > 1 and not rest and len(view) > 1:
            yield from (ViewRows(call, n, num_views) for n in range(num_views))


def smallest_views(assignment: ViewAssignment, views: list[Tensor]) -> list[int]:
    """Indices of the views of the smallest size of which the student encodes two or more.

    These are the local crops of a multi-crop method, or the two views of another.

    Returns:
        Indices in ascending order; empty where no two encoded views have one size.

    >>> views = [torch.rand(2, 3, side, side) for side in (8, 8, 4, 4, 4, 2)]
    >>> smallest_views(match_views(views, views), views)
    [2, 3, 4]
    """
    sizes = Counter(views[index].shape[-2:] for index in assignment)
    several = [size for size, count in sizes.items() if count > 1]
    if not several:
        return []
    smallest = min(several, key=lambda size: size[0] * size[1])
    return [index for index in sorted(assignment) if views[index].shape[-2:] == smallest]
