"""Tracking of what the transforms of MMCV, MMSelfSup and MMPretrain do to an image's location.

Each transform of a pipeline runs as it is, on the same generators. The image before and after it
is read, and the `LocationTrack` in the results is updated.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

from sp_mmselfsup.crop_params import crop_fractions, find_crop_method, record_crops, size_of
from sp_mmselfsup.location_track import KEY, LocationTrack
from sp_plugin import ConfigError
from sp_plugin.views.location import UNKNOWN, ViewLocation
from sp_plugin.views.location_tracker import track_image
from sp_plugin.views.tracking import TransformTracker

__all__ = ["TrackedStep", "TrackedTorchvisionStep", "track_pipeline"]


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


_PACKAGES = _names("mmengine mmcv mmcls mmselfsup mmpretrain")
_CONTAINERS = _names("""
    ApplyToList Compose KeyMapper MultiView RandAugment RandomApply RandomChoice
    TransformBroadcaster
""")
# Each pixel stays in place.
_KEEP_PIXELS = _names("""
    AutoContrast BEiTMaskGenerator Brightness CleanCaption Collect ColorJitter ColorTransform
    Contrast Cutout Equalize GaussianBlur ImageToTensor Invert Lighting LoadImageFromFile Normalize
    PackClsInputs PackInputs PackMultiTaskInputs PackSelfSupInputs Posterize RandomErasing
    RandomGaussianBlur RandomGrayscale RandomSolarize Sharpness SimMIMMaskGenerator Solarize
    SolarizeAdd ToTensor
""")
# The whole image changes its size or format: fractions of it stay the same.
_KEEP_FRACTIONS = _names("""
    NumpyToPIL PILToNumpy RandomChoiceResize RandomResize Resize ResizeEdge ToNumpy ToPIL
""")
_TORCHVISION_WRAPPER = "TorchVisonTransformWrapper"  # MMPretrain's spelling
_CALL_METHODS = ("transform", "forward", "__call__")


def track_pipeline(transform: Any, keep_pixels: Collection[str] = ()) -> Any:
    """Replacement of a transform that updates the track.

    Args:
        transform: built transform; one that contains others, such as ``MultiView`` or
            ``RandomApply``, changes in place.
        keep_pixels: names of the user's own transforms that leave each pixel in place.
    """
    package, class_name = _defining_class(transform)
    if package in _PACKAGES and class_name == _TORCHVISION_WRAPPER:
        return TrackedTorchvisionStep(transform)
    if package not in _PACKAGES or class_name not in _CONTAINERS:
        return TrackedStep(transform, keep_pixels)
    parts = transform.transforms
    if isinstance(parts, list):
        # Tracked already are pipelines that MultiView contains several times.
        parts[:] = [
            part if isinstance(part, _TRACKED) else track_pipeline(part, keep_pixels)
            for part in parts
        ]
    else:
        track_pipeline(parts, keep_pixels)
    return transform


class TrackedStep:
    """Runs one transform and updates the track."""

    def __init__(self, transform: Any, keep_pixels: Collection[str] = ()) -> None:
        self.transform = transform
        self.name = getattr(transform, "__name__", type(transform).__name__)
        package, class_name = _defining_class(transform)
        self._kind = class_name if package in _PACKAGES else None  # None: the user's own
        self._keeps_pixels = self.name in keep_pixels or self._kind in _KEEP_PIXELS
        self._crop_method = find_crop_method(transform, self._kind)

    def __call__(self, results: dict[str, Any]) -> Any:
        image, track = results.get("img"), results.get(KEY)
        if track is not None and track.geometry_only and not self._is_geometric:
            return results
        with record_crops(self.transform, self._crop_method) as crops:
            results = self.transform(results)
        is_changed = image is not None and results and results.get("img", image) is not image
        if is_changed and not self._keeps_pixels:
            self._update(track, size_of(image), results, crops)
        return results

    def __iter__(self) -> Iterator[Any]:
        # mmcv's cache_random_params searches the transforms inside of what it is passed.
        return iter([self.transform])

    def __repr__(self) -> str:
        return repr(self.transform)

    @property
    def _is_geometric(self) -> bool:
        """Whether it crops, flips or resizes."""
        is_known = self._kind == "RandomFlip" or self._kind in _KEEP_FRACTIONS
        return is_known or self._crop_method is not None

    def _update(
        self, track: LocationTrack | None, size: Any, results: Any, crops: list[Any]
    ) -> None:
        if track is None:
            raise ConfigError(f"SPViewBoxes: {self.name} gets an image without its location track")
        if self._kind is None:
            raise ConfigError(
                f"SPViewBoxes: {self.name} changes the image in an unknown way; if it leaves each "
                f"pixel in place, set keep_pixels=['{self.name}']"
            )
        if self._kind == "RandomFlip":
            track.location = _flip(track.location, results["flip_direction"])
        elif crops and crops[-1][0] == size:
            track.location = track.location.crop(*crop_fractions(*crops[-1]))
        elif self._kind not in _KEEP_FRACTIONS:
            track.location = UNKNOWN  # it was rotated, or padded before it was cropped


class TrackedTorchvisionStep:
    """Runs a torchvision transform in MMPretrain's wrapper, tracked by the core."""

    def __init__(self, transform: Any) -> None:
        self.transform = transform
        (transform.t,) = TransformTracker([transform.t]).transform

    def __call__(self, results: dict[str, Any]) -> Any:
        with track_image(results["img"]) as tracker:
            results = self.transform(results)
        if (track := results.get(KEY)) is not None:
            inner = tracker.location(results["img"])
            track.location = UNKNOWN if inner is None else track.location.compose(inner)
        return results

    def __repr__(self) -> str:
        return repr(self.transform)


_TRACKED = (TrackedStep, TrackedTorchvisionStep)


def _flip(location: ViewLocation, direction: str) -> ViewLocation:
    """Flip ``horizontal``, ``vertical`` or, for both, ``diagonal``."""
    location = location if direction == "vertical" else location.hflip()
    return location if direction == "horizontal" else location.vflip()


def _defining_class(transform: Any) -> tuple[str, str]:
    """Package and name of the class that defines what a transform does; a subclass may not."""
    classes = type(transform).__mro__
    defines = (cls for cls in classes if any(name in vars(cls) for name in _CALL_METHODS))
    cls = next(defines, classes[0])
    return cls.__module__.partition(".")[0], cls.__name__
