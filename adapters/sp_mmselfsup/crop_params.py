"""Recorder of the crops that transforms of MMCV, MMSelfSup and MMPretrain take.

The method that draws or receives a crop is wrapped, on the instance and only while it runs.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

__all__ = ["CropMethod", "crop_fractions", "find_crop_method", "record_crops", "size_of"]

Size = tuple[int, int]  # height and width in pixels
Edges = tuple[int, int, int, int]  # left, top, right, bottom in pixels


def _from_size(_: Any, returned: Any) -> Edges:
    """Top, left, height and width are returned: mmcls, MMPretrain, torchvision."""
    top, left, height, width = returned
    return left, top, left + width, top + height


def _from_last_row(_: Any, returned: Any) -> Edges:
    """The first and the last row and column are returned: MMSelfSup."""
    top, left, bottom, right = returned
    return left, top, right + 1, bottom + 1


def _from_argument(args: Any, _: Any) -> Edges:
    """The first and the last column and row are passed with the results: MMCV."""
    left, top, right, bottom = args[1]
    return left, top, right + 1, bottom + 1


class CropMethod(NamedTuple):
    """Method of a transform whose calls contain the crop.

    Attributes:
        name: name of the method.
        to_edges: function of the arguments and the returned value, to the crop's edges.
    """

    name: str
    to_edges: Callable[[Any, Any], Edges]


_RAND_CROP_PARAMS = CropMethod("rand_crop_params", _from_size)  # of mmcls and MMPretrain
_GET_PARAMS = CropMethod("get_params", _from_size)
_CROP_METHODS = {
    "CenterCrop": [CropMethod("_crop_img", _from_argument)],
    "MAERandomResizedCrop": [_GET_PARAMS],
    "RandomCrop": [_RAND_CROP_PARAMS, _GET_PARAMS],
    "RandomResizedCrop": [_RAND_CROP_PARAMS, CropMethod("get_params", _from_last_row)],
    "RandomResizedCropAndInterpolationWithTwoPic": [_GET_PARAMS],
}


def find_crop_method(transform: Any, class_name: str | None) -> CropMethod | None:
    """Crop method of a transform, by the class that defines it; None: none is known."""
    methods = _CROP_METHODS.get(class_name or "", [])
    return next((method for method in methods if hasattr(transform, method.name)), None)


@contextlib.contextmanager
def record_crops(transform: Any, method: CropMethod | None) -> Iterator[list[tuple[Size, Edges]]]:
    """Record the calls of a crop method in the block: size of the input and edges of the crop."""
    crops: list[tuple[Size, Edges]] = []
    if method is None:
        yield crops
        return
    # mmcv binds a method with randomness to the instance that accessed it last: access it here.
    original = getattr(transform, method.name)
    attributes = vars(transform)
    instance_method = attributes.get(method.name)

    def recorded(*args: Any, **kwargs: Any) -> Any:
        values = (*args, *kwargs.values())
        size = size_of(values[0]["img"] if isinstance(values[0], dict) else values[0])
        returned = original(*args, **kwargs)
        crops.append((size, method.to_edges(values, returned)))
        return returned

    attributes[method.name] = recorded
    try:
        yield crops
    finally:
        del attributes[method.name]
        if instance_method is not None:
            attributes[method.name] = instance_method


def size_of(image: Any) -> Size:
    """Height and width of an array (H, W, C) or a PIL image."""
    return tuple(image.shape[:2]) if hasattr(image, "shape") else (image.height, image.width)


def crop_fractions(size: Size, edges: Edges) -> tuple[float, float, float, float]:
    """Left, top, width and height of the part of a crop inside the image, as fractions of it."""
    height, width = size
    left, top, right, bottom = edges
    left, right = max(0, left), min(width, right)
    top, bottom = max(0, top), min(height, bottom)
    return left / width, top / height, (right - left) / width, (bottom - top) / height
