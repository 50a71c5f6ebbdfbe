"""ViewLocation: the part of the original image that a view shows, and whether it is flipped.

A transform crops and flips step by step, and a `ViewLocation` is updated with it. Plain numbers,
since it is updated for every image in the data loader.
"""

from __future__ import annotations

import math
from typing import NamedTuple

__all__ = ["UNKNOWN", "ViewLocation"]


class ViewLocation(NamedTuple):
    """Rectangle of the original image, straight or flipped.

    Attributes:
        left, top, width, height: fractions of the original's width and height.
        flip_x: -1 where the view is flipped left to right, else 1.
        flip_y: -1 where it is flipped top to bottom, else 1.

    >>> ViewLocation().hflip().crop(0.0, 0.0, 0.25, 0.5)
    ViewLocation(left=0.75, top=0.0, width=0.25, height=0.5, flip_x=-1, flip_y=1)
    """

    left: float = 0.0
    top: float = 0.0
    width: float = 1.0
    height: float = 1.0
    flip_x: int = 1
    flip_y: int = 1

    def crop(self, left: float, top: float, width: float, height: float) -> ViewLocation:
        """Location of a part of the view, given as fractions of the view."""
        if self.flip_x < 0:
            left = 1 - left - width
        if self.flip_y < 0:
            top = 1 - top - height
        return self._replace(
            left=self.left + left * self.width,
            top=self.top + top * self.height,
            width=width * self.width,
            height=height * self.height,
        )

    def compose(self, inner: ViewLocation) -> ViewLocation:
        """Location in the original of a view whose location in this view is ``inner``.

        >>> left_half = ViewLocation().crop(0.0, 0.0, 0.5, 1.0)
        >>> right_half = ViewLocation().crop(0.5, 0.0, 0.5, 1.0)
        >>> ViewLocation().hflip().compose(left_half) == right_half.hflip()
        True
        """
        part = self.crop(inner.left, inner.top, inner.width, inner.height)
        return part._replace(flip_x=self.flip_x * inner.flip_x, flip_y=self.flip_y * inner.flip_y)

    def hflip(self) -> ViewLocation:
        """The same part, flipped left to right."""
        return self._replace(flip_x=-self.flip_x)

    def vflip(self) -> ViewLocation:
        """The same part, flipped top to bottom."""
        return self._replace(flip_y=-self.flip_y)

    @property
    def box(self) -> tuple[float, float, float, float]:
        """(cx, cy, w, h), as in `sp_plugin.crops.boxes`; NaN where the location is unknown."""
        return (
            self.left + self.width / 2, self.top + self.height / 2, self.width, self.height
        )  # fmt: skip

    @property
    def flips(self) -> tuple[int, int]:
        """(flip_x, flip_y)."""
        return self.flip_x, self.flip_y


UNKNOWN = ViewLocation(math.nan, math.nan, math.nan, math.nan)
"""Location of a view that was rotated, warped or padded. Crops of it are unknown too."""
