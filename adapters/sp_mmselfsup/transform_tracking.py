"""How the transforms of MMCV, MMSelfSup and MMPretrain move an image, told by the instances.

Each transform of a pipeline runs as it is, between a look at the image before and one after, and
the `Track` among the results follows. What is drawn and what is done stay the host's own.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

from sp_mmselfsup.crop_params import crop_params_source_for, fractions, record_crops, size_of
from sp_mmselfsup.location_track import KEY
from sp_plugin import ConfigError
from sp_plugin.views.location import UNKNOWN, ViewLocation
from sp_plugin.views.location_tracker import track_image
from sp_plugin.views.tracking import TransformTracker as FollowedByCore

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
# ... or the whole image takes another size or form: fractions of it stay the same.
_WHOLE = "NumpyToPIL PILToNumpy RandomChoiceResize RandomResize Resize ResizeEdge ToNumpy ToPIL"
_OF_TORCHVISION = "TorchVisonTransformWrapper"  # MMPretrain's spelling
_RUNS = ("transform", "forward", "__call__")


def track_transform(transform: Any, still: Collection[str] = ()) -> Any:
    """Let the track follow what a transform does.

    Args:
        transform: an instance; one that holds others, such as ``MultiView`` or ``RandomApply``,
            changes in place.
        still: names of transforms of the user's own that leave each pixel in its place.

    Returns:
        What takes the transform's place.
    """
    host, name = _owner(transform)
    if host in _HOSTS and name == _OF_TORCHVISION:
        return TrackedTorchvisionStep(transform)
    if host not in _HOSTS or name not in _WRAPPERS:
        return TrackedStep(transform, still)
    inside = transform.transforms
    if not isinstance(inside, list):
        track_transform(inside, still)
    else:  # MultiView names one pipeline several times
        inside[:] = [
            part if isinstance(part, _FOLLOWED) else track_transform(part, still) for part in inside
        ]
    return transform


class TrackedStep:
    """Runs one transform, and tells the track what it did."""

    def __init__(self, transform: Any, still: Collection[str] = ()) -> None:
        self.transform = transform
        self.name = getattr(transform, "__name__", type(transform).__name__)
        host, kind = _owner(transform)
        self._kind = kind if host in _HOSTS else None
        self._colours = self.name in still or self._kind in _COLOURS.split()
        self._drawing = crop_params_source_for(transform, self._kind or "")
        told = self._kind == "RandomFlip" or self._kind in _WHOLE.split()
        self._geometric = told or self._drawing is not None

    def __call__(self, results: dict[str, Any]) -> Any:
        before, track = results.get("img"), results.get(KEY)
        if track is not None and track.dry and not self._geometric:
            return results
        with record_crops(self.transform, self._drawing) as crops:
            results = self.transform(results)
        changed = before is not None and results and results.get("img", before) is not before
        if not changed or self._colours:
            return results
        if track is None:
            raise ConfigError(f"SPViews: an image comes to {self.name} without its track")
        track.place = self._moved(track.place, size_of(before), results, crops)
        return results

    def __iter__(self) -> Iterator[Any]:
        # mmcv's cache_random_params looks for the transforms inside of what it is handed.
        return iter([self.transform])

    def __repr__(self) -> str:
        return repr(self.transform)

    def _moved(
        self, place: ViewLocation, size: Any, results: Any, crops: list[Any]
    ) -> ViewLocation:
        if self._kind is None:
            raise ConfigError(
                f"SPViews: cannot tell how {self.name} moves the image; if it leaves each pixel "
                f"in its place, say still=['{self.name}']"
            )
        if self._kind in _WHOLE.split():
            return place
        if self._kind == "RandomFlip":
            direction = results["flip_direction"]
            place = place if direction == "vertical" else place.hflip()
            return place if direction == "horizontal" else place.vflip()
        if crops and crops[-1][0] == size:
            return place.crop(*fractions(size, *crops[-1][1]))
        return UNKNOWN  # it was turned, or padded before it was cropped


class TrackedTorchvisionStep:
    """Runs a transform of torchvision's in MMPretrain's wrapper: the core follows these."""

    def __init__(self, transform: Any) -> None:
        self.transform = transform
        (transform.t,) = FollowedByCore([transform.t]).transform

    def __call__(self, results: dict[str, Any]) -> Any:
        with track_image(results["img"]) as trail:
            results = self.transform(results)
        if (track := results.get(KEY)) is not None:
            moved = trail.location(results["img"])
            track.place = UNKNOWN if moved is None else track.place.compose(moved)
        return results

    def __repr__(self) -> str:
        return repr(self.transform)


_FOLLOWED = (TrackedStep, TrackedTorchvisionStep)


def _owner(transform: Any) -> tuple[str, str]:
    """The package and the class that say what a transform does: a subclass may not."""
    order = type(transform).__mro__
    own = next((cls for cls in order if any(name in vars(cls) for name in _RUNS)), order[0])
    return own.__module__.partition(".")[0], own.__name__
