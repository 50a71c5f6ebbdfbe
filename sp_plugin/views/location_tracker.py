"""LocationTracker: where each image of one run of a transform lies in the original.

Images are identified by object identity: the output of a transform has its input's location,
changed by the rule of that kind of transform (`sp_plugin.views.location_rules`). An image that came
from something untracked (a closure, a function called in between) has no known location, and what
is made of it neither. So no location is ever guessed.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from typing import Any

from torch import nn

from sp_plugin.crops.images import is_image
from sp_plugin.crops.samples import first_image
from sp_plugin.nested import tree_leaves
from sp_plugin.views.location import ViewLocation
from sp_plugin.views.location_rules import (
    CropParams,
    TransformCall,
    crop_blank,
    keep_location,
    location_rule_for,
    read_crop_params,
    unknown,
)

__all__ = ["LocationTracker", "track_image"]


class LocationTracker:
    """Locations of all images of one run of a transform.

    Args:
        image: the original.
        geometry_only: the original is a blank tensor and only locations are wanted: transforms
            that neither crop nor flip are left out, and crops are drawn but not cut.
    """

    def __init__(self, image: Any, geometry_only: bool = False) -> None:
        self.geometry_only = geometry_only
        self.crop_params: CropParams = None  # of the transform that is running
        # With the images themselves: an identity is valid only as long as its object lives.
        self._locations: dict[int, tuple[Any, ViewLocation | None]] = {}
        self._locations[id(image)] = image, ViewLocation()

    def location(self, image: Any) -> ViewLocation | None:
        """Location of an image; None: it came from something untracked."""
        return self._locations.get(id(image), (None, None))[1]

    def run(self, tracked: TrackedTransform, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run a transform, and record the location of its output."""
        if self.geometry_only and tracked.keeps_geometry and not kwargs:
            return args[0] if len(args) == 1 else args
        self.crop_params = None
        image_in = self._input_image(args, kwargs)
        is_alone = len(args) == 1 and args[0] is image_in  # and not a part of a sample
        output = None
        if self.geometry_only and is_alone:
            output = crop_blank(tracked.transform, image_in)
        if output is None:
            output = tracked.call(*args, **kwargs)
        self._record(tracked, image_in, output)
        return output

    def _record(self, tracked: TrackedTransform, image_in: Any, output: Any) -> None:
        if id(output) in self._locations:  # unchanged, or recorded by a transform inside
            return
        image_out = _first_image(output)
        if image_out is not None and id(image_out) not in self._locations:
            location = self._location_after(tracked, image_in, image_out)
            self._locations[id(image_out)] = image_out, location

    def _location_after(
        self, tracked: TrackedTransform, image_in: Any, image_out: Any
    ) -> ViewLocation | None:
        location = self.location(image_in)
        # Transforms inside it are tracked, and its output came from none of them.
        is_untracked = tracked.rule is keep_location and not tracked.is_leaf
        if location is None or is_untracked:
            return None
        call = TransformCall(tracked.transform, location, image_in, image_out, self.crop_params)
        return tracked.rule(call)

    def _input_image(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        images = list(tree_leaves((args, kwargs), is_image))
        known = (image for image in images if id(image) in self._locations)
        return next(known, images[0] if images else None)


# Of the process and thread that runs the transform; None where nothing is tracked.
_tracker: ContextVar[LocationTracker | None] = ContextVar("sp_location_tracker", default=None)


@contextlib.contextmanager
def track_image(image: Any, geometry_only: bool = False) -> Iterator[LocationTracker]:
    """Track an image through a `TransformTracker`'s transform for the length of a block."""
    tracker = LocationTracker(image, geometry_only)
    token = _tracker.set(tracker)
    try:
        yield tracker
    finally:
        _tracker.reset(token)


class TrackedTransform:
    """Stands in for one transform and reports its calls; picklable wherever that is.

    Attributes:
        transform: the transform.
        rule: how it changes the location of an image.
        is_leaf: whether no tracked transform is inside it.
    """

    def __init__(self, transform: Any) -> None:
        self.transform = transform
        self.rule = location_rule_for(transform)
        self.is_leaf = True

    @property
    def keeps_geometry(self) -> bool:
        """Whether it neither crops nor flips."""
        return self.is_leaf and self.rule in (keep_location, unknown)

    def call(self, *args: Any, **kwargs: Any) -> Any:
        return self.transform(*args, **kwargs)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        tracker = _tracker.get()
        return self.call(*args, **kwargs) if tracker is None else tracker.run(self, args, kwargs)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or "transform" not in self.__dict__:  # while a copy is made
            raise AttributeError(name)
        return getattr(self.transform, name)

    def __repr__(self) -> str:
        return repr(self.transform)


class TrackedForward(TrackedTransform):
    """Stands in for the ``forward`` of a module, as an attribute of the instance."""

    def __init__(self, transform: nn.Module) -> None:
        super().__init__(transform)
        self.instance_forward = vars(transform).get("forward")  # set by somebody else before

    def call(self, *args: Any, **kwargs: Any) -> Any:
        if self.instance_forward is not None:
            return self.instance_forward(*args, **kwargs)
        return type(self.transform).forward(self.transform, *args, **kwargs)


class CropParamsRecorder:
    """Stands in for the method by which a random crop draws, and records what it drew."""

    def __init__(self, transform: nn.Module, name: str) -> None:
        self.transform, self.name = transform, name
        self.instance_method = vars(transform).get(name)
        self.is_static = isinstance(inspect.getattr_static(type(transform), name), staticmethod)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        returned = self._method()(*args, **kwargs)
        tracker = _tracker.get()
        if tracker is not None:
            tracker.crop_params = read_crop_params(returned)
        return returned

    def _method(self) -> Any:
        if self.instance_method is not None:
            return self.instance_method
        method = getattr(type(self.transform), self.name)
        return method if self.is_static else method.__get__(self.transform)


def _first_image(item: Any) -> Any:
    if isinstance(item, Mapping):  # a sample, in which a mask may stand before the image
        return first_image(item)
    return next(tree_leaves(item, is_image), None)
