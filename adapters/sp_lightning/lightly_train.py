"""lightly-train's transforms: they record where each view lies, which is all that is known of them.

Nothing of lightly-train is imported: its transforms are recognised by the module of their class.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor

from sp_plugin import ConfigError, ViewBoxes

_NUM_RUNS = 64
_BLANK_SIDE = 128  # px


def is_lightly_train(transform: Any) -> bool:
    """Whether it is a transform of a method of lightly-train.

    >>> is_lightly_train(torch.relu)
    False
    """
    return type(transform).__module__.partition(".")[0] == "lightly_train"


def refuse_crops() -> ConfigError:
    """The error for crops of the original image, for which its samples have no room."""
    return ConfigError(
        "source: got 'image', takes 'view' or 'host_views' with lightly-train, whose data set keeps"
        " only the views of what its transform returns"
    )


def to_view_boxes(geometries: Tensor) -> ViewBoxes:
    """Boxes and flips of views.

    Args:
        geometries: (V, B, 8), for each view x and y of the upper left and the lower right corner of
            its crop, width and height of the image, in pixels, and 1 where it is flipped left to
            right, top to bottom, else 0.
    """
    x0, y0, x1, y1, width, height = geometries[..., :6].unbind(-1)
    boxes = torch.stack(
        [(x0 + x1) / 2 / width, (y0 + y1) / 2 / height, (x1 - x0) / width, (y1 - y0) / height],
        dim=-1,
    )
    return ViewBoxes(boxes, 1 - 2 * geometries[..., 6:8])


def sample_boxes(transform: Any) -> Tensor:
    """Boxes of runs of a transform on a blank image; its own generators stay as they were.

    Returns:
        (n, V, 4).

    Raises:
        ConfigError: it records no locations.
    """
    transform = copy.deepcopy(transform)  # its generators are its own
    shape = (_BLANK_SIDE, _BLANK_SIDE, _num_channels(transform))
    blank = torch.zeros(shape, dtype=torch.uint8, device="cpu").numpy()
    runs = []
    for _ in range(_NUM_RUNS):
        views = transform({"image": blank})
        if not all("geometry" in view for view in views):
            raise _no_locations(transform)
        runs.append(torch.stack([view["geometry"] for view in views]))
    return to_view_boxes(torch.stack(runs)).boxes


def _num_channels(transform: Any) -> int:
    channels = getattr(getattr(transform, "transform_args", None), "num_channels", 3)
    return channels if isinstance(channels, int) else 3


def _no_locations(transform: Any) -> ConfigError:
    can_record = hasattr(getattr(transform, "transform_args", None), "record_geometry")
    hint = "set transform_args={'record_geometry': True}, or " if can_record else ""
    return ConfigError(
        f"source: got 'host_views', but {type(transform).__name__} does not record where its views "
        f"lie; {hint}take 'view'"
    )
