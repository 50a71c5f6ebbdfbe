"""SPViews: where each of the host's own views lies in the picture, for ``source="host"``."""

from __future__ import annotations

import copy
from typing import Any

import torch
from mmengine.dataset import Compose
from mmengine.registry import TRANSFORMS

from sp_mmselfsup.following import TRACK, follow
from sp_mmselfsup.pipeline import sample_of
from sp_mmselfsup.track import Track
from sp_plugin import ConfigError


class SPViews:
    """The host's pipeline, which tells where its views were cut, for ``source="host"``.

    The pipeline runs as it is and draws what it would have drawn; its result's ``data_samples``
    gain ``sp_boxes`` (V, 4), where each of V views lies in the picture, and ``sp_flips`` (V, 2),
    -1 where a view is mirrored along x or y, else 1. Of a view that was moved otherwise, by a
    rotation say, the box is NaN. In a config it takes the pipeline's place::

        pipeline=[dict(type="SPViews", pipeline={{_base_.train_pipeline}})]

    Args:
        pipeline: the host's transforms: the first ones load ``img``, the last one packs.
        still: names of transforms of your own that leave each pixel of the picture in its place.

    Raises:
        ConfigError: when called: a pipeline that packs no ``data_samples``, or other pictures
            than it was seen to make; a transform of your own that changes the picture and is not
            named in ``still``.

    >>> SPViews(pipeline=[])({"img_path": "a.png"})
    Traceback (most recent call last):
    sp_plugin.checks.ConfigError: SPViews: the pipeline packs no 'data_samples'; end it with
    PackSelfSupInputs
    """

    def __init__(self, pipeline: list[Any], still: list[str] | tuple[str, ...] = ()) -> None:
        # Transforms that were built already may run elsewhere, too.
        self.pipeline = follow(Compose(copy.deepcopy(pipeline)), still)

    def __call__(self, results: dict[str, Any]) -> dict[str, Any] | None:
        track = Track()
        packed = self.pipeline({**results, TRACK: track})
        if packed is None:  # a picture that the host leaves out
            return None
        sample = sample_of(packed, "SPViews")
        views, tracks = packed["inputs"], track.copies or [track]
        count = len(views) if isinstance(views, list) else 1
        if count != len(tracks):
            raise ConfigError(f"SPViews: {count} pictures are made of {len(tracks)} views")
        sample.sp_boxes = torch.tensor([each.centred() for each in tracks])
        sample.sp_flips = torch.tensor([each.flips for each in tracks], dtype=torch.float32)
        return packed

    def __repr__(self) -> str:
        return f"SPViews({self.pipeline!r})"


# In MMEngine's own registry, which those of both hosts ask for what they do not have themselves.
TRANSFORMS.register_module(module=SPViews)
