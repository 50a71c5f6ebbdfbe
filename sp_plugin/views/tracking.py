"""TransformTracker: what a host's own transform does to an image, seen from beside it.

Each part of the transform is watched on its instance: the ``forward`` of a module is shadowed by an
instance attribute, any other callable gets a stand-in where it is kept (a list, an attribute). No
class changes, and `TransformTracker.remove` takes everything off again. A part runs exactly as it did,
on the same generators; only what goes in and what comes out is looked at, in a `Trail`.
"""

from __future__ import annotations

import functools
import inspect
import operator
from collections.abc import Callable
from typing import Any

from torch import nn

from sp_plugin.views.location_rules import CROP_PARAM_METHODS, random_crop
from sp_plugin.views.trails import CropParamsRecorder, TrackedForward, TrackedTransform

_OF_MODULES = frozenset(vars(nn.Module()))  # torch's own bookkeeping: no parts of a transform


def _watched(item: Any) -> bool:
    if isinstance(item, nn.Module):
        item = vars(item).get("forward")
    return isinstance(item, (TrackedTransform, CropParamsRecorder))


class TransformTracker:
    """Puts the watch on every part of a transform that can be reached, and takes it off.

    Reached are attributes of callables, lists, tuples and dicts, however deep; not what a closure
    holds.

    Attributes:
        transform: to be called in place of the one given; the same object where that is a module.

    >>> import torch
    >>> from sp_plugin.views.location import ViewLocation
    >>> from sp_plugin.views.trails import track_image
    >>> followed = TransformTracker([lambda image: image * 2])
    >>> image = torch.ones(3, 8, 8)
    >>> with track_image(image) as trail:
    ...     view = followed.transform[0](image)
    >>> trail.place(view) == ViewLocation()
    True
    >>> followed.remove()
    """

    def __init__(self, transform: Any) -> None:
        self._undo: list[Callable[[], Any]] = []
        self._met: dict[int, tuple[Any, Any]] = {}
        self._parts = 0
        self.transform = self._on(transform)
        if isinstance(self.transform, TrackedTransform):
            self.transform.leaf = False  # it makes views: what it does inside is not known

    def remove(self) -> None:
        """Put everything back."""
        for undo in reversed(self._undo):
            undo()
        self._undo = []

    def _on(self, item: Any) -> Any:
        """What takes an item's place: itself, or a stand-in; all in it is watched then."""
        if id(item) in self._met:
            return self._met[id(item)][1]
        if _watched(item):  # of another transform that shares it
            self._parts += 1
            return item
        stand_in: Any = item
        if isinstance(item, nn.Module):
            part: TrackedTransform | None = TrackedForward(item)
        elif callable(item) and not isinstance(item, type):
            part = stand_in = TrackedTransform(item)
        else:
            part = None
        self._met[id(item)] = item, stand_in
        outside = self._parts
        if type(item) is tuple:
            stand_in = tuple(self._on(inner) for inner in item)
            self._met[id(item)] = item, stand_in
        elif isinstance(item, list):
            for index, inner in enumerate(item):
                self._put(item, index, inner)
        elif type(item) is dict:
            for key, inner in list(item.items()):
                self._put(item, key, inner)
        elif part is not None and not inspect.isroutine(item):
            self._inside(item)
        if part is not None:
            part.leaf = self._parts == outside
            self._parts += 1
        if isinstance(part, TrackedForward):
            self._shadow(item, "forward", part)
            for name in CROP_PARAM_METHODS if part.move is random_crop else ():
                if hasattr(item, name):
                    self._shadow(item, name, CropParamsRecorder(item, name))
        return stand_in

    def _inside(self, item: Any) -> None:
        attributes = getattr(item, "__dict__", {})
        for name in list(attributes):
            if name == "_modules" or name not in _OF_MODULES:
                self._put(attributes, name, attributes[name])

    def _put(self, container: Any, key: Any, inner: Any) -> None:
        stand_in = self._on(inner)
        if stand_in is not inner:
            self._undo.append(functools.partial(operator.setitem, container, key, inner))
            container[key] = stand_in

    def _shadow(self, module: nn.Module, name: str, by: Any) -> None:
        attributes = vars(module)
        if name in attributes:
            undo = functools.partial(operator.setitem, attributes, name, attributes[name])
        else:
            undo = functools.partial(attributes.pop, name, None)
        self._undo.append(undo)
        attributes[name] = by
