"""``source="host_views"``: the data's transforms record where the method's own views lie."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from sp_plugin import ViewBoxTransform


class ViewBoxWrapper:
    """For `sp_lightning.data.TrainingData`: wraps transforms in a `ViewBoxTransform`.

    Attributes:
        sampled_boxes: (n, V, 4), boxes of runs of the first transform; None: there is none yet.
    """

    def __init__(self) -> None:
        self.sampled_boxes: Tensor | None = None
        self._created: list[ViewBoxTransform] = []

    def __call__(self, transform: Any) -> ViewBoxTransform:
        """The transform as a `ViewBoxTransform`; itself where it is one already.

        Raises:
            ConfigError: none of its views can be located in the image.
        """
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
