"""SPViewBoxes: where each of the host's own views lies in the image, for ``source="host_views"``."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from mmengine.dataset import Compose
from mmengine.logging import MessageHub
from mmengine.registry import TRANSFORMS
from torch import Tensor

from sp_mmselfsup.crops_transform import sample_of
from sp_mmselfsup.location_track import KEY, LocationTrack
from sp_mmselfsup.transform_tracking import track_transform
from sp_plugin import ConfigError
from sp_plugin.isolation import private_rng

_INFO = "sp_views"  # by this name the model finds it in the Runner's message hub
_BLANK = np.zeros((256, 256, 3), np.uint8)
_DRAWN = 1024  # views


class SPViewBoxes:
    """The host's pipeline, which tells where its views were cut, for ``source="host_views"``.

    The pipeline runs as it is and draws what it would have drawn; its result's ``data_samples``
    gain ``sp_boxes`` (V, 4), where each of V views lies in the image, and ``sp_flips`` (V, 2),
    -1 where a view is mirrored left to right, top to bottom, else 1. A view that was rotated,
    warped or padded has no box but NaN. In a config it takes the pipeline's place::

        pipeline=[dict(type="SPViewBoxes", pipeline={{_base_.train_pipeline}})]

    Args:
        pipeline: the host's transforms: the first ones load ``img``, the last one packs.
        still: names of transforms of your own that leave each pixel of the image in its place.

    Raises:
        ConfigError: when called: a pipeline that packs no ``data_samples``, or more images than
            there are views; a transform of your own that changes the image and is not named in
            ``still``.

    >>> SPViewBoxes(pipeline=[])({"img_path": "a.png"})
    Traceback (most recent call last):
    sp_plugin.validation.ConfigError: SPViewBoxes: the pipeline packs no 'data_samples'; end it with
    PackSelfSupInputs
    """

    def __init__(self, pipeline: list[Any], still: list[str] | tuple[str, ...] = ()) -> None:
        # Transforms that were built already may run elsewhere, too.
        self.pipeline = track_transform(Compose(copy.deepcopy(pipeline)), still)
        MessageHub.get_current_instance().update_info(_INFO, self, resumed=False)

    @staticmethod
    def of_current_run() -> SPViewBoxes | None:
        """The one that was built last for the Runner that runs; None: there is none."""
        found: SPViewBoxes | None = MessageHub.get_current_instance().get_info(_INFO)
        return found

    def __call__(self, results: dict[str, Any]) -> dict[str, Any] | None:
        track = LocationTrack()
        packed = self.pipeline({**results, KEY: track})
        if packed is None:  # an image that the host leaves out
            return None
        sample = sample_of(packed, "SPViewBoxes")
        count = len(packed["inputs"]) if isinstance(packed["inputs"], list) else 1
        places = track.views
        if count != len(places):
            raise ConfigError(f"SPViewBoxes: {count} images are made of {len(places)} views")
        sample.sp_boxes = torch.tensor([place.box for place in places])
        sample.sp_flips = torch.tensor([place.flips for place in places], dtype=torch.float32)
        return packed

    def sample_boxes(self, seed: int = 0) -> Tensor:
        """Boxes of runs on a blank square image, the host's generators untouched.

        Transforms that neither crop nor flip nor resize are left out.

        Returns:
            (n, V, 4), of n runs with V views each, a thousand or more views in all.
        """
        drawn: list[Any] = []
        with private_rng(seed):
            while sum(map(len, drawn)) < _DRAWN:
                track = LocationTrack(dry=True)
                self.pipeline({"img": _BLANK, KEY: track})
                drawn.append([place.box for place in track.views])
        return torch.tensor(drawn)

    def __repr__(self) -> str:
        return f"SPViewBoxes({self.pipeline!r})"


# In MMEngine's own registry, which those of both hosts ask for what they do not have themselves.
TRANSFORMS.register_module(module=SPViewBoxes)
