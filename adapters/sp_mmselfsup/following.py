"""How the transforms of MMCV, MMSelfSup and MMPretrain move a picture, told by the instances.

Each transform of a pipeline runs as it is, and the `Track` among the results follows. Where a
crop is taken, the method of the transform that draws it is listened to, on the instance and while
it runs. What is drawn and what is done stay the host's own.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterator
from typing import Any, NamedTuple

from sp_mmselfsup.track import KEY
from sp_plugin import ConfigError
from sp_plugin.places import LOST, Place

_HOSTS = {"mmengine", "mmcv", "mmcls", "mmselfsup", "mmpretrain"}
_WRAPPERS = {"ApplyToList", "Compose", "KeyMapper", "MultiView", "RandAugment", "RandomApply"}
_WRAPPERS |= {"RandomChoice", "TransformBroadcaster"}
# Each pixel stays in its place ...
_COLOURS = """
    AutoContrast BEiTMaskGenerator Brightness CleanCaption Collect ColorJitter ColorTransform
    Contrast Cutout Equalize GaussianBlur ImageToTensor Invert Lighting LoadImageFromFile Normalize
    PackClsInputs PackInputs PackMultiTaskInputs PackSelfSupInputs Posterize RandomErasing
    RandomGaussianBlur RandomGrayscale RandomSolarize Sharpness SimMIMMaskGenerator Solarize
    SolarizeAdd ToTensor
"""
# ... or the whole picture takes another size or form: fractions of it stay the same.
_WHOLE = "NumpyToPIL PILToNumpy RandomChoiceResize RandomResize Resize ResizeEdge ToNumpy ToPIL"
_RUNS = ("transform", "forward", "__call__")

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


class Drawing(NamedTuple):
    """A method of a transform that crops, and how to read the crop off a call of it."""

    method: str
    read: Callable[[Any, Any], Edges]


_DRAWS = Drawing("rand_crop_params", _sides_drawn)  # mmcls' and MMPretrain's
_CROPS = {
    "CenterCrop": [Drawing("_crop_img", _edges_given)],
    "MAERandomResizedCrop": [Drawing("get_params", _sides_drawn)],
    "RandomCrop": [_DRAWS, Drawing("get_params", _sides_drawn)],
    "RandomResizedCrop": [_DRAWS, Drawing("get_params", _edges_drawn)],
    "RandomResizedCropAndInterpolationWithTwoPic": [Drawing("get_params", _sides_drawn)],
}


def follow(transform: Any, still: Collection[str] = ()) -> Any:
    """Let the track follow what a transform does.

    Args:
        transform: an instance; one that holds others, such as ``MultiView`` or ``RandomApply``,
            changes in place.
        still: names of transforms of the user's own that leave each pixel in its place.

    Returns:
        What takes the transform's place.
    """
    host, name = _owner(transform)
    if host not in _HOSTS or name not in _WRAPPERS:
        return Followed(transform, still)
    inside = transform.transforms
    if not isinstance(inside, list):
        follow(inside, still)
    else:  # MultiView names one pipeline several times
        inside[:] = [part if isinstance(part, Followed) else follow(part, still) for part in inside]
    return transform


class Followed:
    """Runs one transform, and tells the track what it did."""

    def __init__(self, transform: Any, still: Collection[str] = ()) -> None:
        self.transform = transform
        self.name = getattr(transform, "__name__", type(transform).__name__)
        host, kind = _owner(transform)
        self._kind = kind if host in _HOSTS else None
        self._colours = self.name in still or self._kind in _COLOURS.split()
        drawings = _CROPS.get(self._kind or "", [])
        found = (drawing for drawing in drawings if hasattr(transform, drawing.method))
        self._drawing = next(found, None)

    def __call__(self, results: dict[str, Any]) -> Any:
        before, track = results.get("img"), results.get(KEY)
        if track is not None and track.dry and self._drawing is None and not self._moves_simply:
            return results
        with _listening(self.transform, self._drawing) as crops:
            results = self.transform(results)
        changed = before is not None and results and results.get("img", before) is not before
        if not changed or self._colours:
            return results
        if track is None:
            raise ConfigError(f"SPViews: a picture comes to {self.name} without its track")
        track.place = self._moved(track.place, _size(before), results, crops)
        return results

    def __iter__(self) -> Iterator[Any]:
        # mmcv's cache_random_params looks for the transforms inside of what it is handed.
        return iter([self.transform])

    def __repr__(self) -> str:
        return repr(self.transform)

    @property
    def _moves_simply(self) -> bool:
        return self._kind == "RandomFlip" or self._kind in _WHOLE.split()

    def _moved(self, place: Place, size: Size, results: Any, crops: list[Any]) -> Place:
        if self._kind is None:
            raise ConfigError(
                f"SPViews: cannot tell how {self.name} moves the picture; if it leaves each pixel "
                f"in its place, say still=['{self.name}']"
            )
        if self._kind in _WHOLE.split():
            return place
        if self._kind == "RandomFlip":
            direction = results["flip_direction"]
            place = place if direction == "vertical" else place.mirrored_x()
            return place if direction == "horizontal" else place.mirrored_y()
        if crops and crops[-1][0] == size:
            return place.crop(*_fractions(size, *crops[-1][1]))
        return LOST  # it was turned, or padded before it was cropped


def _owner(transform: Any) -> tuple[str, str]:
    """The package and the class that say what a transform does: a subclass may not."""
    order = type(transform).__mro__
    own = next((cls for cls in order if any(name in vars(cls) for name in _RUNS)), order[0])
    return own.__module__.partition(".")[0], own.__name__


@contextlib.contextmanager
def _listening(transform: Any, drawing: Drawing | None) -> Iterator[list[tuple[Size, Edges]]]:
    """The crops that a transform draws for as long as this lasts, and what of: sizes in pixels."""
    crops: list[tuple[Size, Edges]] = []
    if drawing is None:
        yield crops
        return
    # mmcv binds a method with randomness to the instance that asked for it last: ask here.
    original = getattr(transform, drawing.method)
    own = vars(transform).get(drawing.method)

    def listening(*args: Any, **kwargs: Any) -> Any:
        given = (*args, *kwargs.values())
        size = _size(given[0]["img"] if isinstance(given[0], dict) else given[0])
        drawn = original(*args, **kwargs)
        crops.append((size, drawing.read(given, drawn)))
        return drawn

    vars(transform)[drawing.method] = listening
    try:
        yield crops
    finally:
        del vars(transform)[drawing.method]
        if own is not None:
            vars(transform)[drawing.method] = own


def _size(picture: Any) -> Size:
    """Of an array or of a PIL image."""
    if hasattr(picture, "shape"):
        return tuple(picture.shape[:2])
    return picture.height, picture.width


def _fractions(size: Size, left: int, top: int, right: int, bottom: int) -> Box:
    """What of a crop lies inside of the picture."""
    height, width = size
    left, right = max(0, left), min(width, right)
    top, bottom = max(0, top), min(height, bottom)
    return left / width, top / height, (right - left) / width, (bottom - top) / height
