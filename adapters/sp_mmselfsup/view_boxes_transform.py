"""SPViewBoxes: locations of the algorithm's own views, for ``source="host_views"``."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from mmengine.dataset import Compose
from mmengine.logging import MessageHub
from mmengine.registry import TRANSFORMS
from torch import Tensor

from sp_mmselfsup.crops_transform import packed_sample
from sp_mmselfsup.location_track import KEY, LocationTrack
from sp_mmselfsup.transform_tracking import track_pipeline
from sp_plugin import ConfigError
from sp_plugin.isolation import private_rng

__all__ = ["SPViewBoxes"]

_INFO = "sp_view_boxes"  # key in the message hub of the Runner, where the algorithm finds it
_BLANK = np.zeros((256, 256, 3), np.uint8)
_NUM_VIEWS = 1024


class SPViewBoxes:
    """The baseline's pipeline, with the location of each view, for ``source="host_views"``.

    The pipeline runs as it is, with the same random draws. Its ``data_samples`` gain ``sp_boxes``
    (V, 4), (cx, cy, w, h) of V views as fractions of the image, and ``sp_flips`` (V, 2), -1 where
    a view is flipped left to right, top to bottom, else 1. The box of a view that was rotated,
    warped or padded is NaN. In a config it replaces the pipeline::

        pipeline=[dict(type="SPViewBoxes", pipeline={{_base_.train_pipeline}})]

    Args:
        pipeline: transforms of the baseline: the first ones load ``img``, the last one packs.
        keep_pixels: names of your own transforms that leave each pixel of the image in place.

    Raises:
        ConfigError: when called: a pipeline that packs no ``data_samples``, or more images than
            there are views; a transform of your own that changes the image and is not named in
            ``keep_pixels``.

    >>> SPViewBoxes(pipeline=[])({"img_path": "a.png"})
    Traceback (most recent call last):
    sp_plugin.validation.ConfigError: SPViewBoxes: the pipeline packs no 'data_samples'; end it with
    PackSelfSupInputs
    """

    def __init__(self, pipeline: list[Any], keep_pixels: list[str] | tuple[str, ...] = ()) -> None:
        # A copy: transforms that were built already may be used elsewhere too.
        self.pipeline = track_pipeline(Compose(copy.deepcopy(pipeline)), keep_pixels)
        MessageHub.get_current_instance().update_info(_INFO, self, resumed=False)

    @staticmethod
    def of_current_run() -> SPViewBoxes | None:
        """The transform that was built last for the current Runner; None: there is none."""
        transform: SPViewBoxes | None = MessageHub.get_current_instance().get_info(_INFO)
        return transform

    def __call__(self, results: dict[str, Any]) -> dict[str, Any] | None:
        track = LocationTrack()
        packed = self.pipeline({**results, KEY: track})
        if packed is None:  # the pipeline skips this image
            return None
        sample = packed_sample(packed, "SPViewBoxes")
        num_images = len(packed["inputs"]) if isinstance(packed["inputs"], list) else 1
        locations = track.view_locations
        if num_images != len(locations):
            raise ConfigError(
                f"SPViewBoxes: {num_images} images are packed, but {len(locations)} views were made"
            )
        sample.sp_boxes = torch.tensor([location.box for location in locations])
        sample.sp_flips = torch.tensor(
            [location.flips for location in locations], dtype=torch.float32
        )
        return packed

    def sample_boxes(self, seed: int = 0) -> Tensor:
        """Boxes of n runs on a blank square image; the global generators stay as they were.

        Transforms that neither crop nor flip nor resize are left out.

        Returns:
            (n, V, 4), with V views in each run and 1024 views or a few more in all.
        """
        boxes: list[Any] = []
        with private_rng(seed):
            while sum(map(len, boxes)) < _NUM_VIEWS:
                track = LocationTrack(geometry_only=True)
                self.pipeline({"img": _BLANK, KEY: track})
                boxes.append([location.box for location in track.view_locations])
        return torch.tensor(boxes)

    def __repr__(self) -> str:
        return f"SPViewBoxes({self.pipeline!r})"


# In MMEngine's own registry, which those of both frameworks fall back to.
TRANSFORMS.register_module(module=SPViewBoxes)
