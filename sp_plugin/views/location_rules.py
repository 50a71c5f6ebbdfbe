"""What each kind of transform does to the place that an image shows.

Kinds are told by their class's name, which torchvision's v1 and v2 and what is derived from them
share; so nothing of torchvision is imported.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from sp_plugin.crops.images import size_of
from sp_plugin.views.location import LOST, Place

# What a random crop said it drew: top, left, height and width in pixels; None: nothing usable.
Drawn = tuple[int, int, int, int] | None
# (the transform, the place before, the image before, the image after, what was drawn)
Move = Callable[[Any, Place, Any, Any, Drawn], Place]


def colours(part: Any, place: Place, before: Any, after: Any, drawn: Drawn) -> Place:
    """Pixels keep their place: jitter, blur, conversion. Another size is a move nobody told."""
    return place if size_of(before) == size_of(after) else LOST


def drawn_crop(part: Any, place: Place, before: Any, after: Any, drawn: Drawn) -> Place:
    """A random crop, resized or not; padding shows what is not of the image."""
    if drawn is None or getattr(part, "padding", None) is not None:
        return LOST
    return _pixels(place, size_of(before), *drawn)


def centre_crop(part: Any, place: Place, before: Any, after: Any, drawn: Drawn) -> Place:
    """As torchvision rounds it (``functional.center_crop``)."""
    (width, height), (w, h) = size_of(before), size_of(after)
    top, left = round((height - h) / 2.0), round((width - w) / 2.0)
    return _pixels(place, (width, height), top, left, h, w)


def resized(part: Any, place: Place, before: Any, after: Any, drawn: Drawn) -> Place:
    """The whole of it in another size."""
    return place


def flipped_x(part: Any, place: Place, before: Any, after: Any, drawn: Drawn) -> Place:
    return place.mirrored_x()


def flipped_y(part: Any, place: Place, before: Any, after: Any, drawn: Drawn) -> Place:
    return place.mirrored_y()


def lost(part: Any, place: Place, before: Any, after: Any, drawn: Drawn) -> Place:
    """Turned, warped, padded: no box can say where that lies."""
    return LOST


def _pixels(place: Place, size: tuple[int, int], top: int, left: int, h: int, w: int) -> Place:
    width, height = size
    if top < 0 or left < 0 or top + h > height or left + w > width:
        return LOST
    return place.crop(left / width, top / height, w / width, h / height)


_KINDS: dict[str, Move] = {
    "RandomResizedCrop": drawn_crop,
    "RandomCrop": drawn_crop,
    "CenterCrop": centre_crop,
    "Resize": resized,
    "RandomResize": resized,
    "RandomShortestSize": resized,
    "ScaleJitter": resized,
    "RandomHorizontalFlip": flipped_x,
    "RandomVerticalFlip": flipped_y,
    "AutoAugment": lost,
    "RandAugment": lost,
    "TrivialAugmentWide": lost,
    "AugMix": lost,
}
# Others by what they are called: a transform of one's own that moves pixels, and no box tells how.
_MOVING = re.compile(r"crop|flip|rotat|affine|perspectiv|elastic|shear|warp|translat|zoom|pad")

# The methods by which torchvision's random crops draw: v2, v2 before 0.21, and v1.
DRAWING = ("make_params", "_get_params", "get_params")


def move_of(part: Any) -> Move:
    """How a transform moves pixels, by the names of its classes or its own as a function.

    >>> move_of(type("RandomRotate", (), {})()).__name__, move_of(type("Blur", (), {})()).__name__
    ('lost', 'colours')
    """
    names = [cls.__name__ for cls in type(part).__mro__] + [getattr(part, "__name__", "")]
    for name in names:
        if name in _KINDS:
            return _KINDS[name]
    return lost if any(_MOVING.search(name.lower()) for name in names) else colours


def blank_crop(part: Any, blank: Tensor) -> Tensor | None:
    """Let torchvision's own RandomResizedCrop draw its box, without the work of cutting it out.

    Returns:
        A blank of the size that the crop has; None: not a part of that kind.
    """
    own = getattr(type(part), "forward", None)
    if move_of(part) is not drawn_crop or not hasattr(part, "scale"):
        return None
    if not str(getattr(own, "__module__", "")).startswith("torchvision."):
        return None
    name = next(name for name in DRAWING if hasattr(part, name))
    if name == "get_params":
        part.get_params(blank, part.scale, part.ratio)
    else:
        getattr(part, name)([blank])
    return blank[:, :1, :1].expand(-1, *part.size)


def drawn_of(told: Any) -> Drawn:
    """What one of ``DRAWING`` returned, as (top, left, height, width).

    >>> drawn_of((1, 2, 3, 4)), drawn_of({"top": 1, "left": 2, "height": 3, "width": 4})
    ((1, 2, 3, 4), (1, 2, 3, 4))
    """
    if isinstance(told, Mapping):
        if told.get("needs_pad"):
            return None
        told = [told.get(key) for key in ("top", "left", "height", "width")]
    if len(told) != 4 or not all(isinstance(value, int) for value in told):
        return None
    top, left, height, width = told
    return top, left, height, width
