"""LocationTracker: where each image of one run of a transform lies in the original.

Images are told by identity: what a part returns is where its input was, moved as that kind of
part moves (`sp_plugin.views.location_rules`). An image that came out of something unseen (a closure, a function
called in between) has no known place, and what is made of it neither. So no place is ever guessed.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from typing import Any

from torch import nn

from sp_plugin.crops.images import is_image
from sp_plugin.views.location import ViewLocation
from sp_plugin.views.location_rules import (
    CropParams,
    crop_blank,
    keep_location,
    location_rule_for,
    read_crop_params,
    unknown,
)


class LocationTracker:
    """Where each image of one run of a transform lies in the original.

    Args:
        image: the original.
        dry: the original is a blank tensor, and only where crops and flips lead is wanted: parts
            that do neither are left out, and crops are drawn but not cut.
    """

    def __init__(self, image: Any, dry: bool = False) -> None:
        self.dry = dry
        self.drawn: CropParams = None
        # With the images themselves: an identity is good only as long as its object lives.
        self._places: dict[int, tuple[Any, ViewLocation | None]] = {
            id(image): (image, ViewLocation())
        }

    def place(self, image: Any) -> ViewLocation | None:
        """Where it lies; None: it came out of something unseen."""
        return self._places.get(id(image), (None, None))[1]

    def step(self, part: TrackedTransform, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run a part of the transform, and note where what it returns lies."""
        if self.dry and part.leaf and part.move in (keep_location, unknown) and not kwargs:
            return args[0] if len(args) == 1 else args
        self.drawn = None
        output = crop_blank(part.part, self._given(args, kwargs)) if self.dry else None
        if output is None:
            output = part.call(*args, **kwargs)
        if id(output) in self._places:  # unchanged, or seen inside: so it is of most parts
            return output
        after = _first_image(output)
        if after is not None and id(after) not in self._places:
            self._places[id(after)] = after, self._moved(part, self._given(args, kwargs), after)
        return output

    def _given(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if args and id(args[0]) in self._places:
            return args[0]
        return _first_image((args, kwargs))

    def _moved(self, part: TrackedTransform, before: Any, after: Any) -> ViewLocation | None:
        start = self.place(before)
        # Parts within it were watched, and what it returns came out of none of them.
        unseen = part.move is keep_location and not part.leaf
        if start is None or unseen:
            return None
        return part.move(part.part, start, before, after, self.drawn)


# Of the process and the thread that transforms; None where nobody asks.
_trail: ContextVar[LocationTracker | None] = ContextVar("sp_trail", default=None)


@contextlib.contextmanager
def track_image(image: Any, dry: bool = False) -> Iterator[LocationTracker]:
    """Follow an image through a `Followed` transform for the length of a block."""
    trail = LocationTracker(image, dry)
    token = _trail.set(trail)
    try:
        yield trail
    finally:
        _trail.reset(token)


class TrackedTransform:
    """Stands for one part of a transform; picklable wherever that is."""

    def __init__(self, part: Any) -> None:
        self.part = part
        self.move = location_rule_for(part)
        self.leaf = True

    def call(self, *args: Any, **kwargs: Any) -> Any:
        return self.part(*args, **kwargs)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        trail = _trail.get()
        return self.call(*args, **kwargs) if trail is None else trail.step(self, args, kwargs)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or "part" not in self.__dict__:  # while a copy is being made
            raise AttributeError(name)
        return getattr(self.part, name)

    def __repr__(self) -> str:
        return repr(self.part)


class TrackedForward(TrackedTransform):
    """Stands for the ``forward`` of a module, as an attribute of the instance."""

    def __init__(self, part: nn.Module) -> None:
        super().__init__(part)
        self.own = vars(part).get("forward")

    def call(self, *args: Any, **kwargs: Any) -> Any:
        if self.own is not None:  # someone else's, beneath
            return self.own(*args, **kwargs)
        return type(self.part).forward(self.part, *args, **kwargs)


class CropParamsRecorder:
    """Stands for a method by which a random crop draws, and notes what it drew."""

    def __init__(self, part: nn.Module, name: str) -> None:
        self.part, self.name = part, name
        self.own = vars(part).get(name)
        self.static = isinstance(inspect.getattr_static(type(part), name), staticmethod)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self.own is not None:
            told = self.own(*args, **kwargs)
        else:
            method = getattr(type(self.part), self.name)
            told = method(*args, **kwargs) if self.static else method(self.part, *args, **kwargs)
        trail = _trail.get()
        if trail is not None:
            trail.drawn = read_crop_params(told)
        return told


def _first_image(item: Any) -> Any:
    if is_image(item):
        return item
    if isinstance(item, Mapping):
        item = list(item.values())
    if not isinstance(item, (list, tuple)):
        return None
    return next((found for part in item if (found := _first_image(part)) is not None), None)
