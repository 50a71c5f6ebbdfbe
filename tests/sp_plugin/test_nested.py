"""tree_leaves: order, containers and what counts as a leaf."""

from __future__ import annotations

import dataclasses
import types
from collections import OrderedDict, UserDict, defaultdict, namedtuple
from typing import Any

import attrs
import pytest
import torch
from torch import nn

from sp_plugin.nested import container_items, replace_items, tree_items, tree_leaves

Sample = namedtuple("Sample", ["image", "label"])


@dataclasses.dataclass(frozen=True)
class FrozenSample:
    image: Any
    label: Any


@attrs.define
class AttrsSample:
    image: Any
    label: Any


class OwnSample:
    def __init__(self, image: Any, label: Any) -> None:
        self.image, self.label = image, label


class ListOfItems(list):
    pass


CONTAINERS = {  # name: container of two parts, and the keys of these
    "list": (lambda a, b: [a, b], (0, 1)),
    "tuple": (lambda a, b: (a, b), (0, 1)),
    "list subclass": (lambda a, b: ListOfItems([a, b]), (0, 1)),
    "dict": (lambda a, b: {"image": a, "label": b}, ("image", "label")),
    "OrderedDict": (lambda a, b: OrderedDict(image=a, label=b), ("image", "label")),
    "defaultdict": (lambda a, b: defaultdict(list, image=a, label=b), ("image", "label")),
    "UserDict": (lambda a, b: UserDict(image=a, label=b), ("image", "label")),
    "NamedTuple": (Sample, ("image", "label")),
    "dataclass": (FrozenSample, ("image", "label")),
    "attrs": (AttrsSample, ("image", "label")),
    "own class": (OwnSample, ("image", "label")),
}
each_container = pytest.mark.parametrize("name", CONTAINERS)


@each_container
def test_every_container_is_opened_by_path(name):
    make, keys = CONTAINERS[name]
    items = list(tree_items(make(1, [2]), _is_int))
    assert items == [(str(keys[0]), 1), (f"{keys[1]}.0", 2)]


@each_container
def test_replaced_container_keeps_its_type(name):
    make, keys = CONTAINERS[name]
    first, second = object(), object()
    item = make(first, second)
    changed = replace_items(item, {keys[0]: "new"})
    assert type(changed) is type(item)
    assert dict(container_items(changed)) == {keys[0]: "new", keys[1]: second}
    assert dict(container_items(item)) == {keys[0]: first, keys[1]: second}
    if name == "defaultdict":
        assert changed["missing"] == []


def test_read_only_mapping_becomes_dict():
    changed = replace_items(types.MappingProxyType({"a": 1, "b": 2}), {"a": 3})
    assert changed == {"a": 3, "b": 2}


def test_object_that_holds_itself_ends():
    item = OwnSample(1, None)
    item.label = [item, 2]
    assert list(tree_leaves(item, _is_int)) == [1, 2]


@pytest.mark.parametrize("item", [torch.zeros(2), nn.Linear(2, 2), OwnSample, len, "text"], ids=str)
def test_other_objects_are_not_opened(item):
    assert container_items(item) == []


def _is_int(item: Any) -> bool:
    return isinstance(item, int)


@pytest.mark.parametrize(
    ("item", "leaves"),
    [
        (7, [7]),
        ([], []),
        ("text", []),
        (None, []),
        ([3, 1, 2], [3, 1, 2]),
        ((1, [2, (3,)], 4), [1, 2, 3, 4]),
        ({"b": 1, "a": 2}, [1, 2]),
        ({"x": [1, {"y": (2, 3)}], "z": "12"}, [1, 2, 3]),
        (OrderedDict(b=1, a=[2]), [1, 2]),
        (UserDict(a=1), [1]),
        (Sample(1, [2]), [1, 2]),
        ([1, "12", 2.5, {3}, None, 4], [1, 4]),
    ],
    ids=str,
)
def test_leaves_are_found_depth_first(item, leaves):
    assert list(tree_leaves(item, _is_int)) == leaves


def test_leaf_is_decided_before_it_is_opened():
    pairs = [(1, 2), [(3, 4)], {"a": (5, 6)}]
    assert list(tree_leaves(pairs, lambda item: isinstance(item, tuple))) == [
        (1, 2),
        (3, 4),
        (5, 6),
    ]
    assert list(tree_leaves(pairs, lambda item: isinstance(item, list))) == [pairs]
    assert next(tree_leaves(pairs, lambda item: item is pairs)) is pairs


def test_leaves_are_the_objects_themselves():
    first, second = object(), object()
    found = list(tree_leaves({"a": [first], "b": second}, lambda item: type(item) is object))
    assert found[0] is first and found[1] is second


def test_search_stops_at_the_first_leaf():
    visited = []

    def is_leaf(item: Any) -> bool:
        visited.append(item)
        return isinstance(item, int)

    assert next(tree_leaves([[1], [2], [3]], is_leaf)) == 1
    assert visited == [[[1], [2], [3]], [1], 1]
    assert next(tree_leaves([["a"]], is_leaf), None) is None
