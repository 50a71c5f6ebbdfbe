"""tree_leaves: order, containers and what counts as a leaf."""

from __future__ import annotations

from collections import OrderedDict, UserDict, namedtuple
from typing import Any

import pytest

from sp_plugin.nested import tree_leaves

Sample = namedtuple("Sample", ["image", "label"])


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
