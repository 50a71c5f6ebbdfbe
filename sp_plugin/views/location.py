"""ViewLocation: which part of the original image a host's view shows, and whether it is mirrored.

A host's transform crops and flips step by step; a `ViewLocation` follows it. Plain numbers, for it runs
once for every image in the data loader.
"""

from __future__ import annotations

import math
from typing import NamedTuple


class ViewLocation(NamedTuple):
    """A rectangle of the original image, seen straight or mirrored.

    Attributes:
        left, top, width, height: fractions of the original's width and height.
        flip_x: -1 where the view shows it with left and right exchanged, else 1.
        flip_y: -1 where top and bottom are, else 1.

    >>> whole = ViewLocation()
    >>> whole.hflip().crop(0.0, 0.0, 0.25, 0.5)
    ViewLocation(left=0.75, top=0.0, width=0.25, height=0.5, flip_x=-1, flip_y=1)
    """

    left: float = 0.0
    top: float = 0.0
    width: float = 1.0
    height: float = 1.0
    flip_x: int = 1
    flip_y: int = 1

    def crop(self, left: float, top: float, width: float, height: float) -> ViewLocation:
        """A part of what is shown, in fractions of it as it is seen."""
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

    def compose(self, part: ViewLocation) -> ViewLocation:
        """A part of what is shown, and mirrored, told as if what is shown were the original.

        >>> left = ViewLocation().crop(0.0, 0.0, 0.5, 1.0)
        >>> ViewLocation().hflip().compose(left) == ViewLocation().crop(0.5, 0.0, 0.5, 1.0).hflip()
        True
        """
        shown = self.crop(part.left, part.top, part.width, part.height)
        return shown._replace(flip_x=self.flip_x * part.flip_x, flip_y=self.flip_y * part.flip_y)

    def hflip(self) -> ViewLocation:
        """The same part with left and right exchanged."""
        return self._replace(flip_x=-self.flip_x)

    def vflip(self) -> ViewLocation:
        """The same part with top and bottom exchanged."""
        return self._replace(flip_y=-self.flip_y)

    @property
    def box(self) -> tuple[float, float, float, float]:
        """(cx, cy, w, h), as in `sp_plugin.crops.boxes`; NaN where the place is not known."""
        return (
            self.left + self.width / 2, self.top + self.height / 2, self.width, self.height
        )  # fmt: skip

    @property
    def flips(self) -> tuple[int, int]:
        """(flip_x, flip_y)."""
        return self.flip_x, self.flip_y


UNKNOWN = ViewLocation(math.nan, math.nan, math.nan, math.nan)
"""A view that was turned, warped or padded: no box says where it lies. Crops of it are lost too."""
