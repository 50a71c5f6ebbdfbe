"""lightly-train's transforms, by stand-ins: their locations, and what is refused.

tests/frameworks has the library itself.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from sp_lightning.data import CropsWrapper
from sp_lightning.host_views import ViewBoxWrapper, recorded_view_boxes
from torch import Tensor

from sp_plugin import ConfigError, SPConfig


class Transform:
    """Two views, the halves of the image; the second is flipped; draws from its own generator."""

    def __init__(self, **args: Any) -> None:
        self.transform_args = SimpleNamespace(num_channels=4, **args)
        self.random = np.random.default_rng(0)

    def __call__(self, sample: dict[str, Any]) -> list[dict[str, Tensor]]:
        height, width, channels = sample["image"].shape
        assert channels == 4
        top = int(self.random.integers(0, height // 2))
        halves = ((0, 0, 0), (width / 2, 1, 0))
        return [
            {
                "image": torch.zeros(channels, 8, 8),
                **self._geometry(left, top, width, height, flips),
            }
            for left, *flips in halves
        ]

    def _geometry(self, left: float, top: int, width: int, height: int, flips: Any) -> Any:
        if not getattr(self.transform_args, "record_geometry", False):
            return {}
        box = (left, top, left + width / 2, top + height / 2, width, height, *flips)
        return {"geometry": torch.tensor(box)}


Transform.__module__ = "lightly_train._methods.stand_in"


def test_recorded_locations_are_taken() -> None:
    transform, wrapper = Transform(record_geometry=True), ViewBoxWrapper()
    assert wrapper(transform) is transform
    boxes = wrapper.sampled_boxes
    assert boxes is not None and boxes.shape[1:] == (2, 4)
    assert boxes[:, :, 0].unique().tolist() == [0.25, 0.75]
    assert boxes[:, :, 2:].unique().tolist() == [0.5] and len(boxes[:, 0, 1].unique()) > 9
    fresh = Transform(record_geometry=True)
    image = np.zeros((40, 60, 4), np.uint8)
    first, second = (each({"image": image}) for each in (transform, fresh))
    assert torch.equal(first[0]["geometry"], second[0]["geometry"]), "its generator has moved"
    views = [view["geometry"][None] for view in first]
    recorded = recorded_view_boxes({"views": [], "geometries": views})
    assert recorded is not None and recorded.boxes.shape == (2, 1, 4)
    assert recorded.flips.tolist() == [[[1, 1]], [[-1, 1]]]
    assert all(recorded_view_boxes(batch) is None for batch in ({}, {"geometries": []}, [1]))


@pytest.mark.parametrize(
    ("args", "line"),
    (
        (
            {"record_geometry": False},
            "set transform_args={'record_geometry': True}, or take 'view'",
        ),
        ({}, "does not record where its views lie; take 'view'"),
    ),
)
def test_no_locations_is_refused(args: dict[str, Any], line: str) -> None:
    with pytest.raises(ConfigError, match="host_views") as error:
        ViewBoxWrapper()(Transform(**args))
    assert line in str(error.value)


def test_crops_of_the_image_are_refused() -> None:
    with pytest.raises(ConfigError, match="takes 'view' or 'host_views' with lightly-train"):
        CropsWrapper(SPConfig(source="image"))(Transform())
