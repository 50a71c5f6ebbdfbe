"""Boxes of one image in plain numbers: those of the sampler, from the same draws."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from sp_plugin.crops.one_image import boxes_of_one_image, resolution_of_one_image
from sp_plugin.crops.resize import matched_resolution
from sp_plugin.crops.sampler import CropSampler
from sp_plugin.isolation import make_generator


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"num_crops": 4},
        {"num_crops": 8, "max_iou": 0.0},  # often no try is within the limit
        {"num_crops": 3, "crop_scale": (0.3, 0.9), "window": (0.2, 1.0)},
        {"num_crops": 4, "box_ratio": 0.25, "crop_ratio": (0.5, 3.0), "tries": 2},
    ],
    ids=str,
)
def test_boxes_are_the_samplers(settings: dict[str, Any]):
    sampler = CropSampler(**settings)
    for n in range(40):
        one, batch = make_generator(n), make_generator(n)
        boxes = torch.tensor(boxes_of_one_image(sampler, one))
        torch.testing.assert_close(boxes, sampler(1, batch)[:, 0], atol=1e-5, rtol=0)
        assert torch.equal(one.get_state(), batch.get_state())  # as many draws


@pytest.mark.parametrize("size", [16, 96, (8, 40)])
def test_resolution_is_that_of_a_batch(size: Any):
    for n in range(20):
        sides = torch.rand(4, 1, 2, generator=make_generator(n)) * 60 + 0.5
        boxes = [(0.0, 0.0, *pair) for pair in sides[:, 0].tolist()]
        draw = torch.rand(1, 1, generator=make_generator(n, 1))
        expected = matched_resolution(sides, size, draw)[0].tolist()
        assert list(resolution_of_one_image(boxes, size, draw.item())) == expected
