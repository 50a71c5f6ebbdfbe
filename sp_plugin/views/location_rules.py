"""What each kind of transform does to the place that an image shows.

Kinds are told by their class's name, which torchvision's v1 and v2 and what is derived from them
share; so nothing of torchvision is imported.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from sp_plugin.crops.images import image_size
from sp_plugin.views.location import UNKNOWN, ViewLocation

# What a random crop said it drew: top, left, height and width in pixels; None: nothing usable.
CropParams = tuple[int, int, int, int] | None
# (the transform, the place before, the image before, the image after, what was drawn)
LocationRule = Callable[[Any, ViewLocation, Any, Any, CropParams], ViewLocation]


def keep_location(
    part: Any, place: ViewLocation, before: Any, after: Any, drawn: CropParams
) -> ViewLocation:
    """Pixels keep their place: jitter, blur, conversion. Another size is a move nobody told."""
    return place if image_size(before) == image_size(after) else UNKNOWN


def random_crop(
    part: Any, place: ViewLocation, before: Any, after: Any, drawn: CropParams
) -> ViewLocation:
    """A random crop, resized or not; padding shows what is not of the image."""
    if drawn is None or getattr(part, "padding", None) is not None:
        return UNKNOWN
    return _pixels(place, image_size(before), *drawn)


def center_crop(
    part: Any, place: ViewLocation, before: Any, after: Any, drawn: CropParams
) -> ViewLocation:
    """As torchvision rounds it (``functional.center_crop``)."""
    (width, height), (w, h) = image_size(before), image_size(after)
    top, left = round((height - h) / 2.0), round((width - w) / 2.0)
    return _pixels(place, (width, height), top, left, h, w)


def resize(
    part: Any, place: ViewLocation, before: Any, after: Any, drawn: CropParams
) -> ViewLocation:
    """The whole of it in another size."""
    return place


def horizontal_flip(
    part: Any, place: ViewLocation, before: Any, after: Any, drawn: CropParams
) -> ViewLocation:
    return place.hflip()


def vertical_flip(
    part: Any, place: ViewLocation, before: Any, after: Any, drawn: CropParams
) -> ViewLocation:
    return place.vflip()


def unknown(
    part: Any, place: ViewLocation, before: Any, after: Any, drawn: CropParams
) -> ViewLocation:
    """Turned, warped, padded: no box can say where that lies."""
    return UNKNOWN


def _pixels(
    place: ViewLocation, size: tuple[int, int], top: int, left: int, h: int, w: int
) -> ViewLocation:
    width, height = size
    if top < 0 or left < 0 or top + h > height or left + w > width:
        return UNKNOWN
    return place.crop(left / width, top / height, w / width, h / height)


_KINDS: dict[str, LocationRule] = {
    "RandomResizedCrop": random_crop,
    "RandomCrop": random_crop,
    "CenterCrop": center_crop,
    "Resize": resize,
    "RandomResize": resize,
    "RandomShortestSize": resize,
    "ScaleJitter": resize,
    "RandomHorizontalFlip": horizontal_flip,
    "RandomVerticalFlip": vertical_flip,
    "AutoAugment": unknown,
    "RandAugment": unknown,
    "TrivialAugmentWide": unknown,
    "AugMix": unknown,
}
# Others by what they are called: a transform of one's own that moves pixels, and no box tells how.
_MOVING = re.compile(r"crop|flip|rotat|affine|perspectiv|elastic|shear|warp|translat|zoom|pad")

# The methods by which torchvision's random crops draw: v2, v2 before 0.21, and v1.
CROP_PARAM_METHODS = ("make_params", "_get_params", "get_params")


def location_rule_for(part: Any) -> LocationRule:
    """How a transform moves pixels, by the names of its classes or its own as a function.

    >>> location_rule_for(type("RandomRotate", (), {})()).__name__, location_rule_for(type("Blur", (), {})()).__name__
    ('lost', 'colours')
    """
    names = [cls.__name__ for cls in type(part).__mro__] + [getattr(part, "__name__", "")]
    for name in names:
        if name in _KINDS:
            return _KINDS[name]
    return unknown if any(_MOVING.search(name.lower()) for name in names) else keep_location


def crop_blank(part: Any, blank: Tensor) -> Tensor | None:
    """Let torchvision's own RandomResizedCrop draw its box, without the work of cutting it out.

    Returns:
        A blank of the size that the crop has; None: not a part of that kind.
    """
    own = getattr(type(part), "forward", None)
    if location_rule_for(part) is not random_crop or not hasattr(part, "scale"):
        return None
    if not str(getattr(own, "__module__", "")).startswith("torchvision."):
        return None
    name = next(name for name in CROP_PARAM_METHODS if hasattr(part, name))
    if name == "get_params":
        part.get_params(blank, part.scale, part.ratio)
    else:
        getattr(part, name)([blank])
    return blank[:, :1, :1].expand(-1, *part.size)


def read_crop_params(told: Any) -> CropParams:
    """What one of ``CROP_PARAM_METHODS`` returned, as (top, left, height, width).

    >>> read_crop_params((1, 2, 3, 4)), read_crop_params({"top": 1, "left": 2, "height": 3, "width": 4})
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
