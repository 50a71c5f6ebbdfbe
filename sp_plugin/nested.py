"""Nested batches: the one walk through lists, tuples and dicts of tensors or images."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

__all__ = ["tree_leaves"]


def tree_leaves(item: Any, is_leaf: Callable[[Any], bool]) -> Iterator[Any]:
    """Leaves of nested mappings, lists and tuples, depth first, in their order.

    Args:
        item: any object; what is neither a leaf nor a container is skipped.
        is_leaf: decides before an item is opened.

    >>> batch = {"views": [1, 2], "label": "cat", "more": (3, [4])}
    >>> list(tree_leaves(batch, lambda item: isinstance(item, int)))
    [1, 2, 3, 4]
    """
    if is_leaf(item):
        yield item
        return
    if isinstance(item, Mapping):
        item = item.values()
    elif not isinstance(item, (list, tuple)):
        return
    for part in item:
        yield from tree_leaves(part, is_leaf)
