"""TransformTracker: tracks what a transform does to the location of an image, without editing it.

Each transform inside is replaced on its instance: the ``forward`` of a module is shadowed by an
instance attribute, any other callable (a module with a ``__call__`` of its own too) gets a stand-in
where it is stored (a list, an attribute). No class changes, and `TransformTracker.remove` restores
everything. A transform runs exactly as before, on the same generators; only its input and
output are read, by a `LocationTracker`.
"""

from __future__ import annotations

import functools
import inspect
import operator
from collections.abc import Callable
from typing import Any

from torch import nn

from sp_plugin.views.location_rules import CROP_PARAM_METHODS, random_crop
from sp_plugin.views.location_tracker import (
    CropParamsRecorder,
    TrackedForward,
    TrackedTransform,
)

__all__ = ["TransformTracker"]

_MODULE_ATTRIBUTES = frozenset(vars(nn.Module()))  # torch's own bookkeeping


class TransformTracker:
    """Installs tracking on every transform that can be reached, and removes it.

    Reached are callables in attributes, lists, tuples and dicts, however deep; not what a closure
    holds.

    Attributes:
        transform: to be called in place of the given one; the same object for most modules.

    >>> import torch
    >>> from sp_plugin.views.location import ViewLocation
    >>> from sp_plugin.views.location_tracker import track_image
    >>> tracker = TransformTracker([lambda image: image * 2])
    >>> image = torch.ones(3, 8, 8)
    >>> with track_image(image) as locations:
    ...     view = tracker.transform[0](image)
    >>> locations.location(view) == ViewLocation()
    True
    >>> tracker.remove()
    """

    def __init__(self, transform: Any) -> None:
        self._undo: list[Callable[[], Any]] = []
        # Each item that was visited, with its replacement. The item keeps its identity valid.
        self._visited: dict[int, tuple[Any, Any]] = {}
        self._num_tracked = 0
        self.transform = self._track(transform)
        if isinstance(self.transform, TrackedTransform):
            self.transform.is_leaf = False  # it makes views: what it does inside is unknown

    def remove(self) -> None:
        """Restore everything."""
        for undo in reversed(self._undo):
            undo()
        self._undo = []

    def _track(self, item: Any) -> Any:
        """Replacement of an item, itself or a stand-in; everything inside is tracked too."""
        if id(item) in self._visited:
            return self._visited[id(item)][1]
        if _is_tracked(item):  # by another tracker that shares it
            self._num_tracked += 1
            return item
        tracked = _make_tracked(item)
        replacement = item if tracked is None or isinstance(tracked, TrackedForward) else tracked
        self._visited[id(item)] = item, replacement
        tracked_before = self._num_tracked
        if type(item) is tuple:
            replacement = tuple(self._track(inner) for inner in item)
            self._visited[id(item)] = item, replacement
        else:
            self._track_inside(item, is_transform=tracked is not None)
        if tracked is not None:
            tracked.is_leaf = self._num_tracked == tracked_before
            self._num_tracked += 1
        if isinstance(tracked, TrackedForward):
            self._shadow(item, "forward", tracked)
        if tracked is not None and tracked.rule is random_crop:
            self._shadow_crop_params(item)
        return replacement

    def _track_inside(self, item: Any, is_transform: bool) -> None:
        if isinstance(item, list):
            for index, inner in enumerate(item):
                self._replace(item, index, inner)
        elif type(item) is dict:
            for key, inner in list(item.items()):
                self._replace(item, key, inner)
        elif is_transform and not inspect.isroutine(item):
            attributes = getattr(item, "__dict__", {})
            for name in list(attributes):
                if name == "_modules" or name not in _MODULE_ATTRIBUTES:
                    self._replace(attributes, name, attributes[name])

    def _replace(self, container: Any, key: Any, inner: Any) -> None:
        replacement = self._track(inner)
        if replacement is not inner:
            self._undo.append(functools.partial(operator.setitem, container, key, inner))
            container[key] = replacement

    def _shadow_crop_params(self, transform: Any) -> None:
        for name in CROP_PARAM_METHODS if isinstance(transform, nn.Module) else ():
            if hasattr(transform, name):
                self._shadow(transform, name, CropParamsRecorder(transform, name))

    def _shadow(self, module: nn.Module, name: str, replacement: Any) -> None:
        attributes = vars(module)
        if name in attributes:
            undo = functools.partial(operator.setitem, attributes, name, attributes[name])
        else:
            undo = functools.partial(attributes.pop, name, None)
        self._undo.append(undo)
        attributes[name] = replacement


def _make_tracked(item: Any) -> TrackedTransform | None:
    """Stand-in for a transform; None: the item is none."""
    # A module whose class calls itself in its own way (stable-pretraining's) may not use forward.
    if isinstance(item, nn.Module) and type(item).__call__ is nn.Module.__call__:
        return TrackedForward(item)
    if callable(item) and not isinstance(item, type):
        return TrackedTransform(item)
    return None


def _is_tracked(item: Any) -> bool:
    if isinstance(item, nn.Module):
        item = vars(item).get("forward")
    return isinstance(item, (TrackedTransform, CropParamsRecorder))
