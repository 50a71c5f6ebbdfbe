"""Nested batches: the one walk through containers of tensors or images, and their rebuilding.

Containers are mappings, lists, tuples, named tuples, dataclasses, attrs classes, and other objects
with attributes of their own.
"""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from torch import Tensor, nn

__all__ = ["copy_containers", "replace_items", "tree_items", "tree_leaves"]


def tree_leaves(item: Any, is_leaf: Callable[[Any], bool]) -> Iterator[Any]:
    """Leaves of nested containers, depth first, in their order.

    Args:
        item: any object; what is neither a leaf nor a container is skipped.
        is_leaf: decides before an item is opened.

    >>> batch = {"views": [1, 2], "label": "cat", "more": (3, [4])}
    >>> list(tree_leaves(batch, lambda item: isinstance(item, int)))
    [1, 2, 3, 4]
    """
    return (leaf for _, leaf in tree_items(item, is_leaf))


def tree_items(
    item: Any, is_leaf: Callable[[Any], bool], path: str = "", _outer: tuple[int, ...] = ()
) -> Iterator[tuple[str, Any]]:
    """Leaves as `tree_leaves` gives them, each with its dotted path.

    >>> list(tree_items({"views": [1, 2]}, lambda item: isinstance(item, int)))
    [('views.0', 1), ('views.1', 2)]
    """
    if is_leaf(item):
        yield path, item
        return
    if id(item) in _outer:  # an object that holds itself
        return
    for key, part in container_items(item):
        inner = f"{path}.{key}" if path else str(key)
        yield from tree_items(part, is_leaf, inner, (*_outer, id(item)))


def container_items(item: Any) -> list[tuple[Any, Any]]:
    """Keys and parts of a container; none of any other object.

    >>> container_items(["a", "b"]), container_items("ab")
    ([(0, 'a'), (1, 'b')], [])
    """
    if isinstance(item, Mapping):
        return list(item.items())
    if isinstance(item, tuple) and (names := getattr(item, "_fields", None)):
        return list(zip(names, item, strict=False))
    if isinstance(item, (list, tuple)):
        return list(enumerate(item))
    if isinstance(item, (Tensor, nn.Module)) or callable(item):
        return []
    names = getattr(item, "__dataclass_fields__", None)  # with slots, attrs classes have no dict
    if names is None:
        names = [field.name for field in getattr(type(item), "__attrs_attrs__", ())]
    attributes = {name: getattr(item, name) for name in names if hasattr(item, name)}
    return list({**attributes, **getattr(item, "__dict__", {})}.items())


def replace_items(item: Any, parts: Mapping[Any, Any]) -> Any:
    """Copy of a container with other parts under some of its keys, of the container's own type.

    A mapping that takes no entries and cannot be copied becomes a dict.

    Args:
        item: container, as `container_items` opens it; it is not changed.
        parts: new parts by key.

    >>> replace_items(("a", "b"), {1: "c"})
    ('a', 'c')
    """
    if isinstance(item, Mapping):
        return _replace_in_mapping(item, parts)
    if isinstance(item, tuple) and hasattr(item, "_replace"):
        return item._replace(**parts)
    if isinstance(item, (list, tuple)):
        items = [parts.get(key, value) for key, value in enumerate(item)]
        return type(item)(items)
    changed = copy.copy(item)
    for key, part in parts.items():
        object.__setattr__(changed, key, part)  # a frozen dataclass refuses setattr
    return changed


def copy_containers(item: Any) -> Any:
    """Copy of nested dicts, lists and tuples, with the same objects in them.

    >>> batch = {"views": [1, 2]}
    >>> copied = copy_containers(batch)
    >>> batch["views"].clear()
    >>> copied
    {'views': [1, 2]}
    """
    if type(item) not in (dict, list, tuple):  # a class of its own may refuse to be built
        return item
    return replace_items(item, {key: copy_containers(part) for key, part in container_items(item)})


def _replace_in_mapping(item: Mapping[Any, Any], parts: Mapping[Any, Any]) -> Any:
    entries = {**item, **parts}
    if type(item) is dict:
        return entries
    if isinstance(item, defaultdict):
        return type(item)(item.default_factory, entries)
    try:
        changed = copy.copy(item)
        for key, part in parts.items():
            changed[key] = part  # type: ignore[index]
    except TypeError:
        return entries
    return changed
