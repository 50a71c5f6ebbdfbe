"""Location rules: how each kind of transform changes the location that an image shows.

Kinds are recognised by the name of their class, which torchvision's v1 and v2 and classes derived
from them share; so nothing of torchvision is imported.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from torch import Tensor

from sp_plugin.crops.images import image_size
from sp_plugin.views.location import UNKNOWN, ViewLocation

__all__ = ["LocationRule", "TransformCall", "location_rule_for"]

# Top, left, height and width of a random crop in pixels; None: not available.
CropParams = tuple[int, int, int, int] | None


class TransformCall(NamedTuple):
    """One call of a transform on one image.

    Attributes:
        transform: the transform.
        location: of the input in the original image.
        image_in: the input.
        image_out: the output.
        crop_params: parameters that a random crop drew in this call.
    """

    transform: Any
    location: ViewLocation
    image_in: Any
    image_out: Any
    crop_params: CropParams = None


LocationRule = Callable[[TransformCall], ViewLocation]


def keep_location(call: TransformCall) -> ViewLocation:
    """Jitter, blur, conversion: pixels stay in place. An output of another size is unknown."""
    same_size = image_size(call.image_in) == image_size(call.image_out)
    return call.location if same_size else UNKNOWN


def random_crop(call: TransformCall) -> ViewLocation:
    """A random crop, resized or not; with padding it shows what is not in the image."""
    if call.crop_params is None or getattr(call.transform, "padding", None) is not None:
        return UNKNOWN
    return _crop_pixels(call.location, image_size(call.image_in), *call.crop_params)


def center_crop(call: TransformCall) -> ViewLocation:
    """Rounded as in torchvision (``functional.center_crop``)."""
    (width, height), (w, h) = image_size(call.image_in), image_size(call.image_out)
    top, left = round((height - h) / 2.0), round((width - w) / 2.0)
    return _crop_pixels(call.location, (width, height), top, left, h, w)


def resize(call: TransformCall) -> ViewLocation:
    """The whole image in another size."""
    return call.location


def horizontal_flip(call: TransformCall) -> ViewLocation:
    return call.location.hflip()


def vertical_flip(call: TransformCall) -> ViewLocation:
    return call.location.vflip()


def unknown(call: TransformCall) -> ViewLocation:
    """Rotated, warped, padded: no box describes the location."""
    return UNKNOWN


def _crop_pixels(
    location: ViewLocation, size: tuple[int, int], top: int, left: int, h: int, w: int
) -> ViewLocation:
    width, height = size
    if top < 0 or left < 0 or top + h > height or left + w > width:
        return UNKNOWN
    return location.crop(left / width, top / height, w / width, h / height)


_RULES: dict[str, LocationRule] = {
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
# Names of other transforms that move pixels in a way that no rule describes.
_MOVES_PIXELS = re.compile(
    r"crop|flip|rotat|affine|perspectiv|elastic|shear|warp|translat|zoom|pad"
)

# Methods by which torchvision's random crops draw their parameters: v2, v2 before 0.21, and v1.
CROP_PARAM_METHODS = ("make_params", "_get_params", "get_params")


def location_rule_for(transform: Any) -> LocationRule:
    """Rule of a transform, by the names of its classes or its own name as a function.

    >>> location_rule_for(type("RandomRotate", (), {})()).__name__
    'unknown'
    >>> location_rule_for(type("Blur", (), {})()).__name__
    'keep_location'
    """
    names = [cls.__name__ for cls in type(transform).__mro__]
    names.append(getattr(transform, "__name__", ""))
    for name in names:
        if name in _RULES:
            return _RULES[name]
    moves = any(_MOVES_PIXELS.search(name.lower()) for name in names)
    return unknown if moves else keep_location


def crop_blank(transform: Any, blank: Tensor) -> Tensor | None:
    """Let torchvision's RandomResizedCrop draw its parameters, without cutting the crop out.

    Args:
        transform: any transform.
        blank: (C, H, W).

    Returns:
        A blank tensor of the crop's size; None: not a transform of that kind.
    """
    forward = getattr(type(transform), "forward", None)
    if location_rule_for(transform) is not random_crop or not hasattr(transform, "scale"):
        return None
    if not str(getattr(forward, "__module__", "")).startswith("torchvision."):
        return None
    name = next(name for name in CROP_PARAM_METHODS if hasattr(transform, name))
    if name == "get_params":
        transform.get_params(blank, transform.scale, transform.ratio)
    else:
        getattr(transform, name)([blank])
    return blank[:, :1, :1].expand(-1, *transform.size)


def read_crop_params(returned: Any) -> CropParams:
    """Parameters (top, left, height, width) from what one of ``CROP_PARAM_METHODS`` returned.

    >>> read_crop_params((1, 2, 3, 4))
    (1, 2, 3, 4)
    >>> read_crop_params({"top": 1, "left": 2, "height": 3, "width": 4})
    (1, 2, 3, 4)
    """
    if isinstance(returned, Mapping):
        if returned.get("needs_pad"):
            return None
        returned = [returned.get(key) for key in ("top", "left", "height", "width")]
    if len(returned) != 4 or not all(isinstance(value, int) for value in returned):
        return None
    top, left, height, width = returned
    return top, left, height, width
