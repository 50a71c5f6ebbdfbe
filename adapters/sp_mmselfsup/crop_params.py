"""How the crops of MMCV, MMSelfSup and MMPretrain tell what they take, each in its own way.

The method that draws a crop, or that is handed it, is listened to: on the instance, and only
while the transform runs.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

Size = tuple[int, int]  # height and width in pixels
Edges = tuple[int, int, int, int]  # left, top, right, bottom in pixels
Box = tuple[float, float, float, float]  # left, top, width, height in fractions


def _sides_drawn(given: Any, drawn: Any) -> Edges:
    """Top, left, height and width: of mmcls, MMPretrain and torchvision."""
    top, left, height, width = drawn
    return left, top, left + width, top + height


def _edges_drawn(given: Any, drawn: Any) -> Edges:
    """The first and the last row and column: of MMSelfSup."""
    top, left, bottom, right = drawn
    return left, top, right + 1, bottom + 1


def _edges_given(given: Any, drawn: Any) -> Edges:
    """The first and the last column and row, handed on with the results: of MMCV."""
    left, top, right, bottom = given[1]
    return left, top, right + 1, bottom + 1


class CropParamsSource(NamedTuple):
    """A method of a transform that crops, and how to read the crop off a call of it."""

    method: str
    read: Callable[[Any, Any], Edges]


_DRAWS = CropParamsSource("rand_crop_params", _sides_drawn)  # mmcls' and MMPretrain's
_CROPS = {
    "CenterCrop": [CropParamsSource("_crop_img", _edges_given)],
    "MAERandomResizedCrop": [CropParamsSource("get_params", _sides_drawn)],
    "RandomCrop": [_DRAWS, CropParamsSource("get_params", _sides_drawn)],
    "RandomResizedCrop": [_DRAWS, CropParamsSource("get_params", _edges_drawn)],
    "RandomResizedCropAndInterpolationWithTwoPic": [CropParamsSource("get_params", _sides_drawn)],
}


def crop_params_source_for(transform: Any, kind: str) -> CropParamsSource | None:
    """How a transform of this kind tells its crops; None: it takes none, or does not tell."""
    drawings = _CROPS.get(kind, [])
    return next((each for each in drawings if hasattr(transform, each.method)), None)


@contextlib.contextmanager
def record_crops(
    transform: Any, drawing: CropParamsSource | None
) -> Iterator[list[tuple[Size, Edges]]]:
    """The crops that a transform draws for as long as this lasts, and what of: sizes in pixels."""
    crops: list[tuple[Size, Edges]] = []
    if drawing is None:
        yield crops
        return
    # mmcv binds a method with randomness to the instance that asked for it last: ask here.
    original = getattr(transform, drawing.method)
    own = vars(transform).get(drawing.method)

    def listened(*args: Any, **kwargs: Any) -> Any:
        given = (*args, *kwargs.values())
        size = size_of(given[0]["img"] if isinstance(given[0], dict) else given[0])
        drawn = original(*args, **kwargs)
        crops.append((size, drawing.read(given, drawn)))
        return drawn

    vars(transform)[drawing.method] = listened
    try:
        yield crops
    finally:
        del vars(transform)[drawing.method]
        if own is not None:
            vars(transform)[drawing.method] = own


def size_of(image: Any) -> Size:
    """Of an array or of a PIL image."""
    if hasattr(image, "shape"):
        return tuple(image.shape[:2])
    return image.height, image.width


def fractions(size: Size, left: int, top: int, right: int, bottom: int) -> Box:
    """What of a crop lies inside of the image."""
    height, width = size
    left, right = max(0, left), min(width, right)
    top, bottom = max(0, top), min(height, bottom)
    return left / width, top / height, (right - left) / width, (bottom - top) / height
