"""ViewLocation after any chain of crops and flips, checked on pixels that hold their location."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sp_plugin.crops.boxes import xyxy_to_cxcywh
from sp_plugin.views.location import UNKNOWN, ViewLocation

SIDE = 64
crops = st.tuples(*[st.integers(0, 7)] * 2, *[st.integers(1, 8)] * 2)  # left, top, width, height
steps = st.lists(st.one_of(st.sampled_from(["x", "y"]), crops), max_size=5)


@given(steps)
def test_location_matches_pixel_coordinates(chain: list[object]) -> None:
    """Each pixel holds its own column and row, so the view shows where it was cut."""
    grid = torch.stack(torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="xy"))
    location, view = ViewLocation(), grid
    for step in chain:
        height, width = view.shape[1:]
        if step == "x":
            location, view = location.hflip(), view.flip(2)
        elif step == "y":
            location, view = location.vflip(), view.flip(1)
        else:
            left, top = min(step[0], width - 1), min(step[1], height - 1)
            w, h = min(step[2], width - left), min(step[3], height - top)
            location = location.crop(left / width, top / height, w / width, h / height)
            view = view[:, top : top + h, left : left + w]
    columns, rows = view
    edges = torch.tensor([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]) / SIDE
    assert torch.tensor(location.box) == pytest.approx(xyxy_to_cxcywh(edges), abs=1e-6)
    if view.shape[2] > 1:
        assert location.flip_x == (1 if columns[0, -1] > columns[0, 0] else -1)
    if view.shape[1] > 1:
        assert location.flip_y == (1 if rows[-1, 0] > rows[0, 0] else -1)


def test_crop_of_unknown_is_unknown() -> None:
    assert all(value != value for value in UNKNOWN.hflip().crop(0.1, 0.1, 0.5, 0.5).box)
