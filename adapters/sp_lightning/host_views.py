"""``source="host_views"``: the data's transforms record where the method's own views lie."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from sp_lightning.lightly_train import is_lightly_train, sample_boxes, to_view_boxes
from sp_plugin import ViewBoxes, ViewBoxTransform


class ViewBoxWrapper:
    """For `sp_lightning.data.TrainingData`: wraps transforms in a `ViewBoxTransform`.

    A transform of lightly-train stays as it is, and records the locations by itself.

    Attributes:
        sampled_boxes: (n, V, 4), boxes of runs of the first transform; None: there is none yet.
    """

    def __init__(self) -> None:
        self.sampled_boxes: Tensor | None = None
        self._created: list[ViewBoxTransform] = []

    def __call__(self, transform: Any) -> Any:
        """The transform as a `ViewBoxTransform`; itself where it records locations already.

        Raises:
            ConfigError: none of its views can be located in the image.
        """
        if is_lightly_train(transform):
            if self.sampled_boxes is None:
                self.sampled_boxes = sample_boxes(transform)
            return transform
        if isinstance(transform, ViewBoxTransform):
            wrapped = transform
        else:
            wrapped = ViewBoxTransform(transform)
            self._created.append(wrapped)
        if self.sampled_boxes is None:
            self.sampled_boxes = wrapped.sample_boxes()
        return wrapped

    def remove(self) -> None:
        """Restore the transforms."""
        for transform in reversed(self._created):
            transform.remove()


def recorded_view_boxes(batch: Any) -> ViewBoxes | None:
    """Locations that lightly-train's transform has put into a batch; None: it has none.

    Args:
        batch: any batch; lightly-train's has ``geometries``, for each view (B, 8).

    >>> whole = torch.tensor([[0.0, 0.0, 64.0, 48.0, 64.0, 48.0, 1.0, 0.0]])
    >>> boxes = recorded_view_boxes({"views": [], "geometries": [whole]})
    >>> boxes.boxes.tolist(), boxes.flips.tolist()
    ([[[0.5, 0.5, 1.0, 1.0]]], [[[-1.0, 1.0]]])
    """
    geometries = batch.get("geometries") if isinstance(batch, Mapping) else None
    if not geometries or not all(isinstance(item, Tensor) for item in geometries):
        return None
    return to_view_boxes(torch.stack(list(geometries)))
