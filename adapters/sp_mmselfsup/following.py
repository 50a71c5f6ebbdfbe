"""How the transforms of MMCV, MMSelfSup and MMPretrain move a picture, told by the instances.

Each transform of a pipeline runs as it is, and the picture's `Track` follows. Where a crop is
taken, the method of the transform that is told or tells the place is listened to, on the instance
and while it runs. What is drawn and what is done stay the host's own.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterator
from typing import Any

from sp_mmselfsup.track import Track
from sp_plugin import ConfigError

TRACK = "sp_track"  # where a picture's track lies among the results

_HOSTS = {"mmengine", "mmcv", "mmcls", "mmselfsup", "mmpretrain"}
_WRAPPERS = {"ApplyToList", "Compose", "KeyMapper", "MultiView", "RandAugment", "RandomApply"}
_WRAPPERS |= {"RandomChoice", "TransformBroadcaster"}
# Each pixel stays in its place, or the whole picture is resized: fractions of it stay the same.
_STILL = """
    AutoContrast BEiTMaskGenerator Brightness CleanCaption Collect ColorJitter ColorTransform
    Contrast Cutout Equalize GaussianBlur ImageToTensor Invert Lighting LoadImageFromFile Normalize
    NumpyToPIL PILToNumpy PackClsInputs PackInputs PackMultiTaskInputs PackSelfSupInputs Posterize
    RandomChoiceResize RandomErasing RandomGaussianBlur RandomGrayscale RandomResize RandomSolarize
    Resize ResizeEdge Sharpness SimMIMMaskGenerator Solarize SolarizeAdd ToNumpy ToPIL ToTensor
"""
_RUNS = ("transform", "forward", "__call__")


Box = tuple[float, float, float, float]
Tell = Callable[[Any, Any], tuple[int, int, int, int]]  # left, top, right, bottom in pixels


def _sides_drawn(given: Any, drawn: Any) -> tuple[int, int, int, int]:
    """Top, left, height and width: of mmcls, MMPretrain and torchvision."""
    top, left, height, width = drawn
    return left, top, left + width, top + height


def _edges_drawn(given: Any, drawn: Any) -> tuple[int, int, int, int]:
    """The first and the last row and column: of MMSelfSup."""
    top, left, bottom, right = drawn
    return left, top, right + 1, bottom + 1


def _edges_given(given: Any, drawn: Any) -> tuple[int, int, int, int]:
    """The first and the last column and row, handed on with the results: of MMCV."""
    left, top, right, bottom = given[1]
    return left, top, right + 1, bottom + 1


# By the transform: its method, and how that tells. ``rand_crop_params`` is mmcls' and MMPretrain's.
_CROPS: dict[str, dict[str, Tell]] = {
    "CenterCrop": {"_crop_img": _edges_given},
    "MAERandomResizedCrop": {"get_params": _sides_drawn},
    "RandomCrop": {"rand_crop_params": _sides_drawn, "get_params": _sides_drawn},
    "RandomResizedCrop": {"rand_crop_params": _sides_drawn, "get_params": _edges_drawn},
    "RandomResizedCropAndInterpolationWithTwoPic": {"get_params": _sides_drawn},
}


def follow(transform: Any, still: Collection[str] = ()) -> Any:
    """Let the tracks follow what a transform does: the transform, or what runs it and tells.

    Wrappers of transforms, such as ``MultiView`` and ``RandomApply``, are followed inside.

    Args:
        transform: an instance; wrappers change in place.
        still: names of classes of the user's own that leave each pixel in its place.
    """
    owner, name = _owner(transform)
    if owner not in _HOSTS or name not in _WRAPPERS:
        return transform if isinstance(transform, Followed) else Followed(transform, still)
    inside = transform.transforms
    if isinstance(inside, list):
        inside[:] = [follow(part, still) for part in inside]
    else:
        follow(inside, still)
    return transform


class Followed:
    """One transform, and what it does to the track that lies among the results."""

    def __init__(self, transform: Any, still: Collection[str] = ()) -> None:
        self.transform = transform
        self._host, self._name = _owner(transform)
        self._known_as = getattr(transform, "__name__", type(transform).__name__)
        ours = self._host in _HOSTS
        self._still = self._known_as in still or (ours and self._name in _STILL.split())
        tells = _CROPS.get(self._name, {}) if ours else {}
        self._asked, self._tell = next(
            ((name, tell) for name, tell in tells.items() if hasattr(transform, name)), (None, None)
        )

    def __call__(self, results: dict[str, Any]) -> Any:
        before, track = results.get("img"), results.get(TRACK)
        with _listening(self.transform, self._asked) as told:
            results = self.transform(results)
        moved = before is not None and results and results.get("img", before) is not before
        if moved and not self._still:
            if track is None:
                raise ConfigError(f"SPViews: a picture comes to {self._known_as} without its track")
            self._move(track, _size(before), results, told)
        return results

    def __iter__(self) -> Iterator[Any]:
        # mmcv's cache_random_params looks for the transforms inside of what it is handed.
        return iter([self.transform])

    def __repr__(self) -> str:
        return repr(self.transform)

    def _move(self, track: Track, size: Any, results: Any, told: list[Any]) -> None:
        if self._host not in _HOSTS:
            raise ConfigError(
                f"SPViews: cannot tell how {self._known_as} moves the picture; if it leaves each "
                f"pixel in its place, say still=['{self._known_as}']"
            )
        if self._name == "RandomFlip":
            track.flip(results["flip_direction"])
        elif self._tell and told and told[-1][0] == size:
            track.crop(*_fractions(size, *self._tell(*told[-1][1:])))
        else:  # it was turned, or padded before it was cropped
            track.lose()


def _fractions(size: Any, left: int, top: int, right: int, bottom: int) -> Box:
    """Left, top, width and height of what of a crop lies inside of the picture."""
    height, width = size
    left, right = max(0, left), min(width, right)
    top, bottom = max(0, top), min(height, bottom)
    return left / width, top / height, (right - left) / width, (bottom - top) / height


def _owner(transform: Any) -> tuple[str, str]:
    """The package and the class that say what a transform does: a subclass may not."""
    order = type(transform).__mro__
    own = next((cls for cls in order if any(name in vars(cls) for name in _RUNS)), order[0])
    return own.__module__.partition(".")[0], own.__name__


@contextlib.contextmanager
def _listening(transform: Any, name: str | None) -> Iterator[list[Any]]:
    """What goes into a method of a transform and what comes out, for as long as this lasts.

    Yields:
        A list of (size of the picture that it was asked about, arguments, output), by call.
    """
    told: list[Any] = []
    if name is None:
        yield told
        return
    # mmcv binds a method with randomness to the instance that asked for it last: ask here.
    original = getattr(transform, name)
    own = vars(transform).get(name)

    def listening(*args: Any, **kwargs: Any) -> Any:
        given = (*args, *kwargs.values())
        size = _size(given[0]["img"] if isinstance(given[0], dict) else given[0])
        output = original(*args, **kwargs)
        told.append((size, given, output))
        return output

    vars(transform)[name] = listening
    try:
        yield told
    finally:
        del vars(transform)[name]
        if own is not None:
            vars(transform)[name] = own


def _size(picture: Any) -> tuple[int, int]:
    """(height, width) of an array or of a PIL image."""
    if hasattr(picture, "shape"):
        return tuple(picture.shape[:2])
    return picture.height, picture.width
